import { useRouter } from "expo-router";
import { View } from "react-native";

import { copy } from "@/lib/copy";
import { useQuery } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { useServer } from "@/lib/server-context";
import { space } from "@/theme";
import { Button, Empty, Text, useToast } from "@/ui";

/** Where there is no conversation yet: whom to write to, or, in an empty house, how others come in. */
export function FirstSteps() {
  const members = useMembers();
  const router = useRouter();
  const { url } = useServer();
  const { toast } = useToast();
  const { data } = useQuery("alone", () => members.directory({ limit: 2 }));
  const address = `${url ?? ""}/app/`;
  if (data === undefined || data.members.length > 1) {
    return <Empty icon="chat" title="No conversations yet" text="Find somebody in the directory, and write to them." action={{ label: "Open the directory", onPress: () => router.navigate("/members") }} />;
  }
  const copied = () => void copy(address).then((well) => toast(well ? "Address copied" : "It could not be copied: mark it, and copy it by hand."));
  return (
    <View style={{ flex: 1 }}>
      <Empty icon="people" title="You are the first" text="Others join at this address. Send it to them:" action={{ label: "Copy the address", onPress: copied }}>
        <Text kind="strong" selectable style={{ textAlign: "center" }}>{address}</Text>
      </Empty>
      <Button label="Complete your profile meanwhile" kind="plain" onPress={() => router.navigate("/me")} style={{ alignSelf: "center", marginBottom: space.xl }} />
    </View>
  );
}
