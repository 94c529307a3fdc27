import { Slot } from "expo-router";
import { useSession } from "@members-book/client/react";

import { ClubContext, useReady } from "@/lib/setup";
import { AuthFrame } from "@/shell/AuthFrame";
import { ServerField } from "@/shell/ServerField";
import { Button, Loading, Notice } from "@/ui";

/** Whether the club is made yet is known before anything is asked: a server that cannot say so is waited for. */
export default function AuthLayout() {
  const session = useSession();
  const { club, problem, retry } = useReady();
  if (club) return <ClubContext.Provider value={club}><Slot /></ClubContext.Provider>;
  if (!problem) return <Loading label="Asking the server" />;
  const loggedOut = session.status === "signed_out" && session.reason === "logged_out";
  return (
    <AuthFrame title={loggedOut ? "You are logged out" : "One moment"} text={`${loggedOut ? "Nothing of you is left on this device. " : ""}This page goes on by itself as soon as the server answers.`}>
      <Notice tone="warn" text={problem} />
      <Button label="Try now" kind="secondary" onPress={retry} />
      <ServerField />
    </AuthFrame>
  );
}

/** Where one is after signing out. */
export const unstable_settings = { initialRouteName: "sign-in", anchor: "sign-in" };
