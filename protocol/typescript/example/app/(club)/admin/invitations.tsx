import { ActivityIndicator, FlatList, View } from "react-native";
import { useRouter } from "expo-router";
import type { AdminInvitation } from "@members-book/client";

import { useAdmin } from "@/admin/useAdmin";
import { webOnly } from "@/lib/platform";
import { usePages, useAction } from "@/lib/query";
import { useInvitations } from "@/lib/rest";
import { REGISTRATION, useClub } from "@/lib/setup";
import { standing } from "@/members/invitation";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Button, Empty, Failed, Loading, Notice, Text, useConfirm, useToast } from "@/ui";

/** All invitations: who made them, and who came by them. */
export default function Invitations() {
  const styles = useStyles();
  const { colors } = useTheme();
  const router = useRouter();
  const admin = useAdmin();
  const club = useClub();
  const pages = usePages("all invitations", async (cursor) => {
    const page = await admin.invitations({ cursor });
    return { items: page.invitations, next: page.next };
  });
  return (
    <FlatList
      data={[...pages.items]} keyExtractor={(invitation) => invitation._id} style={styles.list} contentContainerStyle={styles.content} aria-label="Invitations" {...webOnly({ tabIndex: 0 })}
      ListHeaderComponent={club?.registration === "closed" ? <Notice tone="warn" text={REGISTRATION.closed} /> : <Button label="Invite somebody" onPress={() => router.push("/invite")} style={{ alignSelf: "flex-start" }} />}
      renderItem={({ item }) => <Row invitation={item} onRevoked={pages.reload} />} onEndReached={pages.more} onEndReachedThreshold={1}
      ListFooterComponent={pages.failure ? <Failed failure={pages.failure} onRetry={pages.reload} />
        : pages.loading ? (pages.items.length === 0 ? <Loading label="Loading invitations" /> : <ActivityIndicator color={colors.primary} aria-label="Loading more" />)
        : pages.items.length === 0 ? <Empty icon="mail" title="No invitations" text="Nobody has invited anybody yet." /> : null}
    />
  );
}

function Row({ invitation, onRevoked }: { invitation: AdminInvitation; onRevoked: () => void }) {
  const styles = useStyles();
  const invitations = useInvitations();
  const confirm = useConfirm();
  const { toast } = useToast();
  const { busy, failure, run } = useAction();
  const { _id, tier, note, is_open, created_by_name, members, used, unverified = 0 } = invitation;
  const title = note === null ? `Invitation of ${created_by_name}` : `${created_by_name}: ${note}`;
  const names = members.map(({ name }) => name).join(", ");
  const came = names === "" ? undefined : `Came by it: ${names}${used - unverified > members.length ? ` and ${used - unverified - members.length} more` : ""}`;
  const open = unverified === 0 ? undefined : `${unverified} ${unverified === 1 ? "has" : "have"} not confirmed the address yet. What is not confirmed within two days is free again.`;
  const revoke = async () => {
    if (!(await confirm({ title: "Revoke this invitation?", text: "Nobody can register with its code any more. Who came by it stays.", confirm: "Revoke", danger: true }))) return;
    await run(async () => {
      await invitations.revoke(_id);
      toast("Revoked");
      onRevoked();
    });
  };
  return (
    <View style={styles.row}>
      <View style={styles.words}>
        <Text kind="strong">{title}</Text>
        <Text kind="small" tone="muted">{`${tier} · ${standing(invitation)}`}</Text>
        {came === undefined ? null : <Text kind="small">{came}</Text>}
        {open === undefined ? null : <Text kind="small">{open}</Text>}
        {failure ? <Notice tone="danger" text={failure.message} /> : null}
      </View>
      {is_open ? <Button label="Revoke" name={`Revoke the invitation of ${created_by_name}`} kind="secondary" compact busy={busy} onPress={() => void revoke()} /> : null}
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  list: { flex: 1 },
  content: { width: "100%", maxWidth: 820, alignSelf: "center", padding: space.l, gap: space.s },
  row: { flexDirection: "row", flexWrap: "wrap", alignItems: "center", gap: space.m, padding: space.m, borderRadius: radius.m, backgroundColor: colors.surface, borderWidth: 1, borderColor: colors.border },
  words: { flexGrow: 1, flexBasis: 200, minWidth: 0, gap: space.xxs },
}));
