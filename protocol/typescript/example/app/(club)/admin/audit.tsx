import { useEffect, useState } from "react";
import { ActivityIndicator, FlatList, Pressable, View } from "react-native";
import type { AuditAction, AuditEntry, MemberId } from "@members-book/client";
import type { AuditFilter } from "@members-book/client/admin";

import { useAdmin } from "@/admin/useAdmin";
import { useName } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { usePages } from "@/lib/query";
import { dateTime } from "@/lib/time";
import { makeStyles, space, useTheme } from "@/theme";
import { Button, Choice, Empty, Failed, Loading, Sheet, Text } from "@/ui";

const ACTIONS: Record<AuditAction, string> = {
  admin_created: "made an administrator of",
  tier_changed: "changed the tier of",
  active_changed: "activated or deactivated",
  role_changed: "changed the role of",
  disconnected: "disconnected",
  profile_changed: "changed the profile of",
  password_changed: "changed the password of",
  password_reset: "reset the password of",
  erased: "erased",
  sessions_ended: "ended all sessions of",
  application_approved: "let in",
  application_rejected: "rejected",
  invitation_created: "made an invitation, as",
  invitation_revoked: "revoked an invitation of",
  invitation_used: "came by an invitation:",
  invitation_returned: "did not verify the address, so a use of an invitation is free again:",
  suspension_changed: "suspended, or ended the suspension of,",
  second_factor_enabled: "turned on the second factor of",
  second_factor_disabled: "turned off the second factor of",
  second_factor_reset: "reset the second factor of",
  recovery_codes_replaced: "replaced the recovery codes of",
  recovery_code_used: "used a recovery code of",
  login_failed: "failed to log in as",
  member_read: "read what only administrators see of",
  exported: "exported everything about",
  reset_link_made: "made a link on the command line that sets the password of",
  address_allowed: "let somebody register with an address of before, as",
};

type Time = "any" | "day" | "week" | "month";

const TIMES: readonly { value: Time; label: string }[] = [
  { value: "any", label: "Any time" }, { value: "day", label: "Last day" }, { value: "week", label: "Last week" }, { value: "month", label: "Last 30 days" },
];
const DAYS: Record<Time, number | undefined> = { any: undefined, day: 1, week: 7, month: 30 };
/** So many entries fill a screen. */
const SCREEN = 20;

/** What entries are to have in common with one that was chosen. */
type Same = Pick<AuditFilter, "action" | "actor_id" | "target_id">;

/** Who did what to whom. */
export default function Audit() {
  const styles = useStyles();
  const { colors } = useTheme();
  const admin = useAdmin();
  const [time, setTime] = useState<Time>("any");
  const [same, setSame] = useState<Same>({});
  const [chosen, setChosen] = useState<AuditEntry>();
  const pages = usePages(`audit ${time} ${JSON.stringify(same)}`, async (cursor) => {
    const days = DAYS[time];
    const since = days === undefined ? undefined : new Date(Date.now() - days * 86_400_000).toISOString();
    const page = await admin.audit({ cursor, since, ...same });
    return { items: page.entries, next: page.next };
  });
  // With several filters a page may be short although there are more.
  const { loading, complete, failure, more } = pages;
  const short = pages.items.length < SCREEN && !complete && !failure;
  useEffect(() => {
    if (short && !loading) more();
  }, [short, loading, more]);
  const only = (next: Same) => {
    setSame((old) => ({ ...old, ...next }));
    setChosen(undefined);
  };
  const filters = (
    <View style={styles.filters}>
      <Choice label="Time" options={TIMES} value={time} onChange={setTime} />
      {Object.keys(same).length === 0 ? <Text kind="small" tone="muted">Press an entry to see only those like it.</Text> : (
        <View style={styles.only}>
          <Text kind="small">Only what {same.actor_id ? <Name of={same.actor_id} /> : "somebody"} {same.action ? ACTIONS[same.action] ?? same.action : "did to"} {same.target_id ? <Name of={same.target_id} /> : "anybody"}</Text>
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
        : pages.items.length === 0 ? <Empty icon="shield" title="Nothing yet" text="What administrators do to members is written down here." /> : null}
    />
    {chosen ? <Like entry={chosen} onClose={() => setChosen(undefined)} onChoose={only} /> : null}
    </>
  );
}

/** Asks what the entries that are shown are to have in common with this one. */
function Like({ entry, onClose, onChoose }: { entry: AuditEntry; onClose: () => void; onChoose: (same: Same) => void }) {
  const { action, actor_id, target_id } = entry;
  const target = useName(target_id);
  return (
    <Sheet open title="Show only" onClose={onClose}>
      <View style={{ gap: space.s }}>
        <Button label={`Entries of this kind: ${ACTIONS[action] ?? action} …`} kind="secondary" onPress={() => onChoose({ action })} />
        {actor_id ? <ByActor of={actor_id} onChoose={onChoose} /> : null}
        <Button label={`What was done to ${target}`} kind="secondary" onPress={() => onChoose({ target_id })} />
      </View>
    </Sheet>
  );
}

function ByActor({ of, onChoose }: { of: MemberId; onChoose: (same: Same) => void }) {
  return <Button label={`What ${useName(of)} did`} kind="secondary" onPress={() => onChoose({ actor_id: of })} />;
}

function Row({ entry, onPress }: { entry: AuditEntry; onPress: () => void }) {
  const styles = useStyles();
  const details = Object.entries(entry.details).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");
  return (
    <Pressable role="button" onPress={onPress} style={styles.row}>
      <Text>{entry.actor_id ? <Name of={entry.actor_id} /> : entry.action === "login_failed" ? "Somebody" : "The command line"} {ACTIONS[entry.action] ?? entry.action} <Name of={entry.target_id} /></Text>
      {details === "" ? null : <Text kind="small" tone="muted">{details}</Text>}
      <Text kind="tiny" tone="muted">{dateTime(entry.at)}{entry.address ? ` · from ${entry.address}` : ""}</Text>
    </Pressable>
  );
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
