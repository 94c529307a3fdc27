import { View } from "react-native";
import { useConversations } from "@members-book/client/react";

import { ConversationList } from "@/chat/ConversationList";
import { FirstSteps } from "@/members/FirstSteps";
import { useTheme, useWide } from "@/theme";
import { Empty } from "@/ui";

export default function Chats() {
  const wide = useWide();
  const { colors } = useTheme();
  const { ready, conversations } = useConversations();
  if (!wide) return <ConversationList />;
  return (
    <View style={{ flex: 1, backgroundColor: colors.background }}>
      {!ready ? null : conversations.length === 0 ? <FirstSteps /> : <Empty icon="chat" title="Choose a conversation" text="Or find somebody in the directory, and write to them." />}
    </View>
  );
}
