import { View } from "react-native";
import { Slot, Stack } from "expo-router";

import { ConversationList } from "@/chat/ConversationList";
import { isWeb } from "@/lib/platform";
import { useTheme, useWide } from "@/theme";

export default function ChatsLayout() {
  const wide = useWide();
  const { colors } = useTheme();
  if (!wide) return isWeb ? <Slot /> : <Stack screenOptions={{ headerShown: false }} />;
  return (
    <View style={{ flex: 1, minHeight: 0, flexDirection: "row" }}>
      <View style={{ width: 340, borderRightWidth: 1, borderRightColor: colors.border }}><ConversationList beside /></View>
      <View style={{ flex: 1, minWidth: 0, minHeight: 0 }}><Slot /></View>
    </View>
  );
}
