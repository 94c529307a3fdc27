import { ActivityIndicator, FlatList, View } from "react-native";
import { useApplications } from "@members-book/client/react";
import type { AdminMember } from "@members-book/client";

import { AllowAddress } from "@/admin/AllowAddress";
import { ProofSheet, useProof } from "@/account/Proof";
import { useAdmin } from "@/admin/useAdmin";
import { usePages, useAction } from "@/lib/query";
import { REGISTRATION, useClub } from "@/lib/setup";
import { dateTime } from "@/lib/time";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Button, Empty, Failed, Loading, Notice, Text, useConfirm, useToast } from "@/ui";

/** Who has registered and waits to be let in. */
export default function Applications() {
  const styles = useStyles();
  const { colors } = useTheme();
  const admin = useAdmin();
  const club = useClub();
  // Another one, or another administrator has decided: the list is read anew.
  const waiting = useApplications();
  const pages = usePages(`applications ${waiting}`, async (cursor) => {
    const page = await admin.members({ cursor, status: "pending" });
    return { items: page.members, next: page.next };
  });
  return (
    <FlatList
      data={[...pages.items]} keyExtractor={(member) => member._id} style={styles.list} contentContainerStyle={styles.content} aria-label="Applications"
      ListHeaderComponent={club ? <Text tone="muted">{REGISTRATION[club.registration]}</Text> : null}
      renderItem={({ item }) => <Row member={item} onDecided={pages.reload} />} onEndReached={pages.more} onEndReachedThreshold={1}
      ListFooterComponent={pages.failure ? <Failed failure={pages.failure} onRetry={pages.reload} />
        : pages.loading ? (pages.items.length === 0 ? <Loading label="Loading applications" /> : <ActivityIndicator color={colors.primary} aria-label="Loading more" />)
        : (
          <>
            {pages.items.length === 0 ? <Empty icon="people" title="Nobody waits" text="Who registers without an invitation waits here, where administrators decide about new members." /> : null}
            <AllowAddress />
          </>
        )}
    />
  );
}

function Row({ member, onDecided }: { member: AdminMember; onDecided: () => void }) {
  const styles = useStyles();
  const admin = useAdmin();
  const confirm = useConfirm();
  const { toast } = useToast();
  const approval = useAction();
  const rejection = useAction();
  const { proved, wanted } = useProof();
  const { _id, name, email, created_at } = member;
  const failure = approval.failure ?? rejection.failure;
  const approve = () => void approval.run(async () => {
    await admin.approve(_id);
    toast(`${name} is a member now`);
    onDecided();
  });
  const reject = async () => {
    if (!(await confirm({ title: `Reject ${name}?`, text: "What they have entered is deleted. They are not told, and may register again.", confirm: "Reject", danger: true }))) return;
    await rejection.run(async () => {
      await proved(() => admin.reject(_id));
      toast("Rejected");
      onDecided();
    });
  };
  return (
    <View style={styles.row}>
      <View style={styles.words}>
        <Text kind="strong">{name}</Text>
        <Text kind="small" tone="muted" selectable>{email}</Text>
        <Text kind="tiny" tone="muted">since {dateTime(created_at)}</Text>
        {failure ? <Notice tone="danger" text={failure.message} /> : null}
      </View>
      <View style={styles.buttons}>
        <Button label="Approve" name={`Approve ${name}`} busy={approval.busy} disabled={rejection.busy} onPress={approve} />
        <Button label="Reject" name={`Reject ${name}`} kind="secondary" busy={rejection.busy} disabled={approval.busy} onPress={() => void reject()} />
      </View>
      <ProofSheet wanted={wanted} />
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  list: { flex: 1 },
  content: { width: "100%", maxWidth: 820, alignSelf: "center", padding: space.l, gap: space.s },
  row: { flexDirection: "row", flexWrap: "wrap", alignItems: "center", gap: space.m, padding: space.m, borderRadius: radius.m, backgroundColor: colors.surface, borderWidth: 1, borderColor: colors.border },
  words: { flexGrow: 1, flexBasis: 200, minWidth: 0, gap: space.xxs },
  buttons: { flexDirection: "row", gap: space.s },
}));
