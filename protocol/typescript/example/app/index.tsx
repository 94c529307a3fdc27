import { Redirect } from "expo-router";
import { useSession } from "@members-book/client/react";

export default function Index() {
  const { status } = useSession();
  return <Redirect href={status === "signed_in" ? "/chats" : "/sign-in"} />;
}
