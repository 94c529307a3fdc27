import { useEffect, useState } from "react";
import { ActivityIndicator, FlatList, Pressable, View } from "react-native";
import type { AuditEntry, MemberId } from "@members-book/client";
import type { AuditFilter } from "@members-book/client/admin";

import { KINDS, READS, sentence } from "@/admin/audit";
import type { Part } from "@/admin/audit";
import { useAdmin } from "@/admin/useAdmin";
import { useName } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { usePages } from "@/lib/query";
import { dateTime } from "@/lib/time";
import { makeStyles, space, useTheme } from "@/theme";
import { Button, Choice, Empty, Failed, Loading, Sheet, Text } from "@/ui";

type Time = "any" | "day" | "week" | "month";

const TIMES: readonly { value: Time; label: string }[] = [
  { value: "any", label: "Any time" }, { value: "day", label: "Last day" }, { value: "week", label: "Last week" }, { value: "month", label: "Last 30 days" },
];
const DAYS: Record<Time, number | undefined> = { any: undefined, day: 1, week: 7, month: 30 };
/** What is shown of the log. Most of it is what was read. */
type What = "changes" | "member_read" | "exported";

const WHATS: readonly { value: What; label: string }[] = [
  { value: "changes", label: "What was done" }, { value: "member_read", label: "What administrators read" }, { value: "exported", label: "Exports" },
];
/** So many entries fill a screen, and so many are asked for at once: that the log was read is in the log, too. */
const SCREEN = 20;
const PAGE = 100;
/** After so many pages without a screen of what is looked for, somebody says whether to look on. */
const PAGES_MAX = 10;

/** What entries are to have in common with one that was chosen. */
type Same = Pick<AuditFilter, "action" | "actor_id" | "target_id">;

/** Who did what to whom. */
export default function Audit() {
  const styles = useStyles();
  const { colors } = useTheme();
  const admin = useAdmin();
  const [time, setTime] = useState<Time>("any");
  const [what, setWhat] = useState<What>("changes");
  const [same, setSame] = useState<Same>({});
  const [chosen, setChosen] = useState<AuditEntry>();
  const [looked, setLooked] = useState(0);
  const pages = usePages(`audit ${time} ${what} ${JSON.stringify(same)}`, async (cursor) => {
    const days = DAYS[time];
    const since = days === undefined ? undefined : new Date(Date.now() - days * 86_400_000).toISOString();
    const kinds = what !== "changes" ? { action: what } : same.action === undefined ? { not_action: READS } : {};
    const page = await admin.audit({ cursor, limit: PAGE, since, ...same, ...kinds });
    setLooked((old) => (cursor === undefined ? 1 : old + 1));
    return { items: page.entries, next: page.next };
  });
  // A page may be short although there are more.
  const { loading, complete, failure, more } = pages;
  const short = pages.items.length < SCREEN && !complete && !failure;
  const lookOn = short && looked < PAGES_MAX;
  useEffect(() => {
    if (lookOn && !loading) more();
  }, [lookOn, loading, more]);
  const only = ({ action, ...others }: Same) => {
    // What was read has a place of its own.
    const read = WHATS.find(({ value }) => value === action);
    if (read) setWhat(read.value);
    else if (action) setWhat("changes");
    setSame(({ action: before, ...old }) => {
      const kept = read ? undefined : action ?? before;
      return { ...old, ...others, ...(kept === undefined ? {} : { action: kept }) };
    });
    setChosen(undefined);
  };
  const choose = (next: What) => {
    setWhat(next);
    setSame(({ action: _, ...others }) => others);
  };
  const filters = (
    <View style={styles.filters}>
      <Choice label="Show" options={WHATS} value={what} onChange={choose} />
      <Choice label="Time" options={TIMES} value={time} onChange={setTime} />
      {Object.keys(same).length === 0 ? <Text kind="small" tone="muted">Press an entry to see only those like it.</Text> : (
        <View style={styles.only}>
          <Text kind="small">Only {same.action ? KINDS[same.action] ?? same.action : "entries"}{same.actor_id ? <> by <Name of={same.actor_id} /></> : null}{same.target_id ? <> about <Name of={same.target_id} /></> : null}</Text>
          <Button label="Show everything" kind="plain" compact onPress={() => setSame({})} />
        </View>
      )}
    </View>
  );
  return (
    <>
    <FlatList
      data={[...pages.items]} keyExtractor={(entry, index) => `${entry.at} ${index}`} style={styles.list} contentContainerStyle={styles.content} aria-label="Audit log" {...webOnly({ tabIndex: 0 })}
      renderItem={({ item }) => <Row entry={item} onPress={() => setChosen(item)} />} onEndReached={pages.more} onEndReachedThreshold={1} ListHeaderComponent={filters}
      ListFooterComponent={pages.failure ? <Failed failure={pages.failure} onRetry={pages.reload} />
        : pages.loading ? (pages.items.length === 0 ? <Loading /> : <ActivityIndicator color={colors.primary} aria-label="Loading more" />)
        : short ? <Button label="Look further back" kind="secondary" onPress={more} style={{ alignSelf: "center" }} />
        : pages.items.length === 0 ? <Empty icon="shield" title="Nothing yet" text="What administrators do to members is written down here." /> : null}
    />
    {chosen ? <Like entry={chosen} onClose={() => setChosen(undefined)} onChoose={only} /> : null}
    </>
  );
}

/** Asks what the entries that are shown are to have in common with this one. */
function Like({ entry, onClose, onChoose }: { entry: AuditEntry; onClose: () => void; onChoose: (same: Same) => void }) {
  const { action, actor_id, target_id } = entry;
  return (
    <Sheet open title="Show only" onClose={onClose}>
      <View style={{ gap: space.s }}>
        <Button label={KINDS[action] ?? action} kind="secondary" onPress={() => onChoose({ action })} />
        {actor_id ? <ByActor of={actor_id} onChoose={onChoose} /> : null}
        {target_id === null || target_id === actor_id ? null : <ToTarget of={target_id} onChoose={onChoose} />}
      </View>
    </Sheet>
  );
}

function ByActor({ of, onChoose }: { of: MemberId; onChoose: (same: Same) => void }) {
  return <Button label={`What ${useName(of)} did`} kind="secondary" onPress={() => onChoose({ actor_id: of })} />;
}

function ToTarget({ of, onChoose }: { of: MemberId; onChoose: (same: Same) => void }) {
  return <Button label={`What was done to ${useName(of)}`} kind="secondary" onPress={() => onChoose({ target_id: of })} />;
}

function Row({ entry, onPress }: { entry: AuditEntry; onPress: () => void }) {
  const styles = useStyles();
  return (
    <Pressable role="button" onPress={onPress} style={styles.row}>
      <Text>{sentence(entry).map((part, at) => <Words key={at} of={part} />)}</Text>
      <Text kind="tiny" tone="muted">{dateTime(entry.at)}{entry.address ? ` · from ${entry.address}` : ""}</Text>
    </Pressable>
  );
}

function Words({ of }: { of: Part }) {
  return typeof of === "string" ? of : <Name of={of.member} />;
}

function Name({ of }: { of: MemberId }) {
  return <Text kind="strong">{useName(of)}</Text>;
}

const useStyles = makeStyles(({ colors }) => ({
  filters: { gap: space.s, paddingBottom: space.m },
  only: { flexDirection: "row", flexWrap: "wrap", alignItems: "center", gap: space.s },
  list: { flex: 1 },
  content: { width: "100%", maxWidth: 820, alignSelf: "center", padding: space.l },
  row: { paddingVertical: space.m, gap: space.xs, borderBottomWidth: 1, borderBottomColor: colors.border },
}));
