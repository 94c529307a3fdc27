import { useRouter } from "expo-router";
import { View } from "react-native";

import { useScreen } from "@/lib/screens";
import { useTheme } from "@/theme";
import { Empty } from "@/ui";

export default function NotFound() {
  const router = useRouter();
  const { colors } = useTheme();
  useScreen("Nothing is here");
  return (
    <View style={{ flex: 1, backgroundColor: colors.background }} role="main">
      <Empty icon="search" title="Nothing is here" text="The address leads nowhere. It may have been mistyped." action={{ label: "To the beginning", onPress: () => router.replace("/") }} />
    </View>
  );
}
