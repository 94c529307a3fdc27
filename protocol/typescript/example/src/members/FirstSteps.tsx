import { useRouter } from "expo-router";
import { View } from "react-native";
import type { ClubInfo } from "@members-book/client";

import { copy } from "@/lib/copy";
import { useMe } from "@/lib/people";
import { isLoopback } from "@/lib/server";
import { useServer } from "@/lib/server-context";
import { mayInvite, useClub } from "@/lib/setup";
import { space } from "@/theme";
import { Button, Empty, Loading, Text, useToast } from "@/ui";
import { useAlone } from "./alone";

/** Where there is no conversation yet: whom to write to, or, in an empty house, how others come in. */
export function FirstSteps() {
  const router = useRouter();
  const club = useClub();
  const alone = useAlone();
  if (alone === false) {
    return <Empty icon="chat" title="No conversations yet" text="Find somebody in the directory, and write to them." action={{ label: "Open the directory", onPress: () => router.navigate("/members") }} />;
  }
  if (!alone || !club) return <Loading />;
  return (
    <View style={{ flex: 1 }}>
      <ComeIn club={club} />
      <Button label="Complete your profile meanwhile" kind="plain" onPress={() => router.navigate("/me")} style={{ alignSelf: "center", marginBottom: space.xl }} />
    </View>
  );
}

const FIRST = { icon: "people", title: "You are the first" } as const;

/** How others come in, as the club decides. */
function ComeIn({ club }: { club: ClubInfo }) {
  const me = useMe();
  const router = useRouter();
  if (club.registration === "closed") return <Empty {...FIRST} text="Registration is closed: nobody can join before REGISTRATION is set to something else, where the server is run." />;
  if (club.registration === "open") return <Address />;
  const text = club.registration === "invite" ? "The club takes members by invitation: make one, and send its link." : "Who has an invitation is in at once: make one, and send its link. Who registers without one waits until you let them in.";
  if (!mayInvite(club, me)) return <Empty {...FIRST} text="Others come when an administrator has let them in." />;
  return <Empty {...FIRST} text={text} action={{ label: "Invite somebody", onPress: () => router.push("/invite") }} />;
}

/** Anybody can join at the address of the app. */
function Address() {
  const { url = "" } = useServer();
  const { toast } = useToast();
  const address = `${url}/app/`;
  const copied = () => void copy(address).then((well) => toast(well ? "Address copied" : "It could not be copied: mark it, and copy it by hand."));
  const text = isLoopback(address)
    ? "Only this machine reaches this address: try the club with a second account in a private window. For other devices, start the server with HOST=0.0.0.0; it prints the address that they reach, and takes members by invitation, unless REGISTRATION says otherwise."
    : "Others join at this address. Send it to them:";
  return (
    <Empty {...FIRST} text={text} action={{ label: "Copy the address", onPress: copied }}>
      <Text kind="strong" selectable style={{ textAlign: "center" }}>{address}</Text>
    </Empty>
  );
}
