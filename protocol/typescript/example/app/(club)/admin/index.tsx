import { useEffect, useState } from "react";
import { ActivityIndicator, FlatList, View } from "react-native";
import type { Tier, UserType } from "@members-book/client";

import { AdminRow } from "@/admin/AdminRow";
import { useAdmin } from "@/admin/useAdmin";
import { webOnly } from "@/lib/platform";
import { usePages } from "@/lib/query";
import { TierNote, TIERS } from "@/members/Tier";
import { makeStyles, space, useTheme } from "@/theme";
import { Choice, Empty, Failed, Field, Loading, Notice } from "@/ui";

const TIER_FILTER: readonly { value: Tier | "all"; label: string }[] = [{ value: "all", label: "Every tier" }, ...TIERS.map((tier) => ({ value: tier, label: tier }))];
const ROLE_FILTER: readonly { value: UserType | "all"; label: string }[] = [
  { value: "all", label: "Everybody" }, { value: "member", label: "Members" }, { value: "admin", label: "Administrators" },
];
const STATE_FILTER: readonly { value: "all" | "yes" | "no" | "unverified"; label: string }[] = [
  { value: "all", label: "Any" }, { value: "yes", label: "Active" }, { value: "no", label: "Not active" }, { value: "unverified", label: "Address not verified" },
];

/** So many members are searched at most. */
const SEARCHED_MAX = 2_000;

export default function AdminMembers() {
  const styles = useStyles();
  const { colors } = useTheme();
  const admin = useAdmin();
  const [text, setText] = useState("");
  const [tier, setTier] = useState<Tier | "all">("all");
  const [role, setRole] = useState<UserType | "all">("all");
  const [state, setState] = useState<(typeof STATE_FILTER)[number]["value"]>("all");
  const pages = usePages(`${tier} ${role} ${state}`, async (cursor) => {
    const page = await admin.members({
      cursor, tier: tier === "all" ? undefined : tier, user_type: role === "all" ? undefined : role, is_active: state === "yes" ? true : state === "no" ? false : undefined, status: state === "unverified" ? state : undefined,
    });
    return { items: page.members, next: page.next };
  });
  // The server has no search for administrators: what is loaded is searched, and more is loaded until everybody was looked at, within bounds.
  const words = text.trim().toLocaleLowerCase();
  const shown = words === "" ? pages.items : pages.items.filter(({ name, email }) => `${name} ${email}`.toLocaleLowerCase().includes(words));
  const looking = words !== "" && !pages.complete && !pages.failure && pages.items.length < SEARCHED_MAX;
  const { loading, more } = pages;
  useEffect(() => {
    if (looking && !loading) more();
  }, [looking, loading, more]);
  const filters = (
    <View style={styles.filters}>
      <Field label="Search" placeholder="Name or e-mail" value={text} onChangeText={setText} maxLength={100} {...webOnly({ type: "search" })} autoCorrect={false} autoCapitalize="none" />
      {words !== "" && !pages.complete && !looking && !pages.failure ? <Notice tone="warn" text={`Only the first ${pages.items.length} members were searched: choose filters as well.`} /> : null}
      <Choice label="Tier" options={TIER_FILTER} value={tier} onChange={setTier} />
      <TierNote tier={tier === "all" ? undefined : tier} />
      <Choice label="Role" options={ROLE_FILTER} value={role} onChange={setRole} />
      <Choice label="State" options={STATE_FILTER} value={state} onChange={setState} />
    </View>
  );
  return (
    <FlatList
      data={[...shown]} keyExtractor={(member) => member._id} style={styles.list} contentContainerStyle={styles.content} aria-label="Members"
      renderItem={({ item }) => <AdminRow member={item} onChanged={(next) => pages.replace((old) => (old._id === next._id ? next : old))} />}
      onEndReached={pages.more} onEndReachedThreshold={1} ListHeaderComponent={filters}
      ListFooterComponent={pages.failure ? <Failed failure={pages.failure} onRetry={pages.reload} />
        : pages.loading ? (pages.items.length === 0 ? <Loading label="Loading members" /> : <ActivityIndicator color={colors.primary} aria-label="Loading more" />)
        : shown.length === 0 ? <Empty icon="people" title="Nobody" text="No member is like that. Choose other filters, or search for something else." /> : null}
    />
  );
}

const useStyles = makeStyles(() => ({
  filters: { gap: space.s, paddingBottom: space.l },
  list: { flex: 1 },
  content: { width: "100%", maxWidth: 820, alignSelf: "center", padding: space.l, gap: space.s },
}));
