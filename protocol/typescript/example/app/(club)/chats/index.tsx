import { View } from "react-native";

import { ConversationList } from "@/chat/ConversationList";
import { useTheme, useWide } from "@/theme";
import { Empty } from "@/ui";

export default function Chats() {
  const wide = useWide();
  const { colors } = useTheme();
  if (!wide) return <ConversationList />;
  return (
    <View style={{ flex: 1, backgroundColor: colors.background }}>
      <Empty icon="chat" title="Choose a conversation" text="Or find somebody in the directory, and write to them." />
    </View>
  );
}
