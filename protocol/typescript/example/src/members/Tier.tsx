import { View } from "react-native";
import type { Tier } from "@members-book/client";

import { makeStyles, radius, space } from "@/theme";
import { Text } from "@/ui";

export const TIERS: readonly Tier[] = ["Disruption", "Infinity", "Sócio"];

export function TierBadge({ tier, centered = false }: { tier: Tier; centered?: boolean }) {
  const styles = useStyles();
  return <View style={[styles.badge, centered && styles.centered]}><Text kind="tiny" tone="onSoft">{tier}</Text></View>;
}

const useStyles = makeStyles(({ colors }) => ({
  badge: { alignSelf: "flex-start", backgroundColor: colors.soft, borderRadius: radius.full, paddingHorizontal: space.s, paddingVertical: space.xxs },
  centered: { alignSelf: "center" },
}));
