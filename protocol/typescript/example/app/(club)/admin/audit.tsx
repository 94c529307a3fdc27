import { ActivityIndicator, FlatList, View } from "react-native";
import type { AuditAction, AuditEntry, MemberId } from "@members-book/client";

import { useAdmin } from "@/admin/useAdmin";
import { useName } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { usePages } from "@/lib/query";
import { dateTime } from "@/lib/time";
import { makeStyles, space, useTheme } from "@/theme";
import { Empty, Failed, Loading, Text } from "@/ui";

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

/** Who did what to whom. */
export default function Audit() {
  const styles = useStyles();
  const { colors } = useTheme();
  const admin = useAdmin();
  const pages = usePages("audit", async (cursor) => {
    const page = await admin.audit({ cursor });
    return { items: page.entries, next: page.next };
  });
  return (
    <FlatList
      data={[...pages.items]} keyExtractor={(entry, index) => `${entry.at} ${index}`} style={styles.list} contentContainerStyle={styles.content} aria-label="Audit log" {...webOnly({ tabIndex: 0 })}
      renderItem={({ item }) => <Row entry={item} />} onEndReached={pages.more} onEndReachedThreshold={1}
      ListFooterComponent={pages.failure ? <Failed failure={pages.failure} onRetry={pages.reload} />
        : pages.loading ? (pages.items.length === 0 ? <Loading /> : <ActivityIndicator color={colors.primary} aria-label="Loading more" />)
        : pages.items.length === 0 ? <Empty icon="shield" title="Nothing yet" text="What administrators do to members is written down here." /> : null}
    />
  );
}

function Row({ entry }: { entry: AuditEntry }) {
  const styles = useStyles();
  const details = Object.entries(entry.details).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");
  return (
    <View style={styles.row}>
      <Text>{entry.actor_id ? <Name of={entry.actor_id} /> : entry.action === "login_failed" ? "Somebody" : "The command line"} {ACTIONS[entry.action] ?? entry.action} <Name of={entry.target_id} /></Text>
      {details === "" ? null : <Text kind="small" tone="muted">{details}</Text>}
      <Text kind="tiny" tone="muted">{dateTime(entry.at)}{entry.address ? ` · from ${entry.address}` : ""}</Text>
    </View>
  );
}

function Name({ of }: { of: MemberId }) {
  return <Text kind="strong">{useName(of)}</Text>;
}

const useStyles = makeStyles(({ colors }) => ({
  list: { flex: 1 },
  content: { width: "100%", maxWidth: 820, alignSelf: "center", padding: space.l },
  row: { paddingVertical: space.m, gap: space.xs, borderBottomWidth: 1, borderBottomColor: colors.border },
}));
