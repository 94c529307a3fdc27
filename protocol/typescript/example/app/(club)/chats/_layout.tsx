import { useState } from "react";
import { View } from "react-native";
import { Slot, Stack, usePathname } from "expo-router";

import { ConversationList } from "@/chat/ConversationList";
import { FilterProvider } from "@/chat/filter";
import { isWeb } from "@/lib/platform";
import { useTheme, useWide } from "@/theme";

export default function ChatsLayout() {
  const wide = useWide();
  return <FilterProvider>{wide ? <Panes /> : isWeb ? <Slot /> : <Stack screenOptions={{ headerShown: false }} />}</FilterProvider>;
}

/** The list, and a chat beside it. */
function Panes() {
  const { colors } = useTheme();
  const path = usePathname();
  const [archived, setArchived] = useState(false);
  // A chat that is opened leaves the list as it is.
  const asked = path === "/chats/archived" || (path !== "/chats" && archived);
  if (asked !== archived) setArchived(asked);
  return (
    <View style={{ flex: 1, minHeight: 0, flexDirection: "row" }}>
      <View style={{ width: 340, borderRightWidth: 1, borderRightColor: colors.border }}><ConversationList key={String(archived)} archived={archived} beside /></View>
      <View style={{ flex: 1, minWidth: 0, minHeight: 0 }}><Slot /></View>
    </View>
  );
}
