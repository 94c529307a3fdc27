import { ScrollView, View } from "react-native";

import { useAdmin } from "@/admin/useAdmin";
import { useQuery } from "@/lib/query";
import { REGISTRATION, useClub } from "@/lib/setup";
import { duration } from "@/lib/time";
import { makeStyles, space } from "@/theme";
import { Button, Failed, Loading, Notice, Section, Text } from "@/ui";

function bytes(count: number): string {
  const megabytes = count / 1_048_576;
  return megabytes >= 1_024 ? `${(megabytes / 1_024).toFixed(1)} GB` : `${megabytes.toFixed(1)} MB`;
}

/** How long mail may wait before it seems that nobody takes it, in seconds. */
const LATE = 300;

function secondsSince(at: string): number {
  return Math.max(0, Math.floor((Date.now() - Date.parse(at)) / 1_000));
}

function isLate(at: string): boolean {
  return secondsSince(at) >= LATE;
}

/** What the servers do. */
export default function Server() {
  const styles = useStyles();
  const admin = useAdmin();
  const club = useClub();
  const { data, failure, loading, reload } = useQuery("stats", () => admin.stats());
  if (!data) return failure ? <Failed failure={failure} onRetry={reload} /> : <Loading />;
  const { mail, store, nodes } = data;
  const who = club && `${REGISTRATION[club.registration]} ${club.invitations === "members" ? "Every member may invite." : "Administrators invite."}`;
  return (
    <ScrollView style={styles.scroll} contentContainerStyle={styles.content}>
      <View style={styles.column}>
        {failure ? <Notice tone="danger" text={failure.message} /> : null}
        {data.nodes_silent > 0 ? <Notice tone="warn" text={`${data.nodes_silent} of the servers did not answer: what follows is without them.`} /> : null}
        <Section title="Now">
          <Figures of={[["Members connected", data.members_connected], ["Connections", data.connections], ["Messages since the start", data.messages_since_start]]} />
        </Section>
        {who ? <Section title="Who comes in" text={club.registration === "closed" ? REGISTRATION.closed : who}><Text kind="small" tone="muted">REGISTRATION and INVITATIONS, where the server is run, decide it.</Text></Section> : null}
        <Section title="Stored" text={store.description}>
          <Figures of={[["Active members", store.members_active], ["Members", store.members], ["Applications", store.applications], ["Conversations", store.conversations], ["Messages", store.messages], ["Size", bytes(store.bytes)]]} />
        </Section>
        <Section title="Mail" text={mail.is_sent ? "What waits to be sent." : "No mail server is set up: mail reaches nobody. A server that listens on its own machine only writes it to its log, links included."}>
          {mail.oldest_at !== null && isLate(mail.oldest_at) ? <Notice tone="warn" text="Mail has been waiting for a while: does the mail server take it? The log of the server says why not." /> : null}
          <Figures of={[["Waiting", mail.waiting], ["The oldest has waited", mail.oldest_at === null ? "-" : duration(secondsSince(mail.oldest_at))]]} />
        </Section>
        {nodes.map((node) => (
          <Section key={node.id ?? node.name} title={node.name} text={`Version ${node.version}, up for ${duration(node.uptime_seconds)}`}>
            {node.doubts.map((doubt) => <Notice key={doubt} tone="warn" text={doubt} />)}
            <Figures of={[["Members connected", node.members_connected], ["Connections", node.connections], ["Messages since the start", node.messages_since_start]]} />
          </Section>
        ))}
        <Button label="Read again" kind="secondary" icon="retry" busy={loading} onPress={reload} style={styles.button} />
      </View>
    </ScrollView>
  );
}

function Figures({ of }: { of: readonly (readonly [label: string, value: number | string])[] }) {
  const styles = useStyles();
  return (
    <View style={styles.figures}>
      {of.map(([label, value]) => (
        <View key={label} style={styles.figure}>
          <Text kind="title">{typeof value === "number" ? value.toLocaleString("en") : value}</Text>
          <Text kind="small" tone="muted">{label}</Text>
        </View>
      ))}
    </View>
  );
}

const useStyles = makeStyles(() => ({
  scroll: { flex: 1 },
  content: { alignItems: "center", padding: space.l },
  column: { width: "100%", maxWidth: 820, gap: space.l },
  figures: { flexDirection: "row", flexWrap: "wrap", gap: space.l },
  figure: { minWidth: 120, flexGrow: 1, flexBasis: 120 },
  button: { alignSelf: "flex-start" },
}));
