import { useState } from "react";
import { ActivityIndicator, FlatList, View } from "react-native";
import { useClient } from "@members-book/client/react";
import type { Tier, UserType } from "@members-book/client";

import { AdminRow } from "@/admin/AdminRow";
import { usePages } from "@/lib/query";
import { TIERS } from "@/members/Tier";
import { makeStyles, space, useTheme } from "@/theme";
import { Choice, Empty, Failed, Loading } from "@/ui";

const TIER_FILTER: readonly { value: Tier | "all"; label: string }[] = [{ value: "all", label: "Every tier" }, ...TIERS.map((tier) => ({ value: tier, label: tier }))];
const ROLE_FILTER: readonly { value: UserType | "all"; label: string }[] = [
  { value: "all", label: "Everybody" }, { value: "member", label: "Members" }, { value: "admin", label: "Administrators" },
];
const ACTIVE_FILTER: readonly { value: "all" | "yes" | "no"; label: string }[] = [{ value: "all", label: "Any" }, { value: "yes", label: "Active" }, { value: "no", label: "Not active" }];

export default function AdminMembers() {
  const styles = useStyles();
  const { colors } = useTheme();
  const { api } = useClient();
  const [tier, setTier] = useState<Tier | "all">("all");
  const [role, setRole] = useState<UserType | "all">("all");
  const [active, setActive] = useState<"all" | "yes" | "no">("all");
  const pages = usePages(`${tier} ${role} ${active}`, async (cursor) => {
    const page = await api.adminMembers({
      cursor, tier: tier === "all" ? undefined : tier, user_type: role === "all" ? undefined : role, is_active: active === "all" ? undefined : active === "yes",
    });
    return { items: page.members, next: page.next };
  });
  const filters = (
    <View style={styles.filters}>
      <Choice label="Tier" options={TIER_FILTER} value={tier} onChange={setTier} />
      <Choice label="Role" options={ROLE_FILTER} value={role} onChange={setRole} />
      <Choice label="State" options={ACTIVE_FILTER} value={active} onChange={setActive} />
    </View>
  );
  return (
    <FlatList
      data={[...pages.items]} keyExtractor={(member) => member._id} style={styles.list} contentContainerStyle={styles.content} aria-label="Members"
      renderItem={({ item }) => <AdminRow member={item} onChanged={(next) => pages.replace((old) => (old._id === next._id ? next : old))} />}
      onEndReached={pages.more} onEndReachedThreshold={1} ListHeaderComponent={filters}
      ListFooterComponent={pages.failure ? <Failed failure={pages.failure} onRetry={pages.reload} />
        : pages.loading ? (pages.items.length === 0 ? <Loading label="Loading members" /> : <ActivityIndicator color={colors.primary} />)
        : pages.items.length === 0 ? <Empty icon="people" title="Nobody" text="No member is like that. Choose other filters." /> : null}
    />
  );
}

const useStyles = makeStyles(() => ({
  filters: { gap: space.s, paddingBottom: space.l },
  list: { flex: 1 },
  content: { width: "100%", maxWidth: 820, alignSelf: "center", padding: space.l, gap: space.s },
}));
