import { Redirect, useLocalSearchParams } from "expo-router";
import { useClient } from "@members-book/client/react";

import { ChatScreen } from "@/chat/ChatScreen";

export default function Chat() {
  const client = useClient();
  const { key } = useLocalSearchParams<{ key: string }>();
  try {
    client.target(key);
  } catch {
    // An address that was mistyped.
    return <Redirect href="/chats" />;
  }
  return <ChatScreen key={key} conversationKey={key} />;
}
