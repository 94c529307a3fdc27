import { useRouter } from "expo-router";
import { View } from "react-native";

import { Empty } from "@/ui";

export default function NotFound() {
  const router = useRouter();
  return (
    <View style={{ flex: 1 }} role="main">
      <Empty icon="search" title="Nothing is here" text="The address leads nowhere. It may have been mistyped." action={{ label: "To the beginning", onPress: () => router.replace("/") }} />
    </View>
  );
}
