import { View } from "react-native";
import type { Tier } from "@members-book/client";

import { makeStyles, radius, space } from "@/theme";
import { Text } from "@/ui";

export const TIERS: readonly Tier[] = ["Disruption", "Infinity", "Sócio"];

/** That of everybody to whom nobody has given another one: not worth a word. */
export const DEFAULT_TIER: Tier = "Disruption";

export function TierBadge({ tier, centered = false }: { tier: Tier; centered?: boolean }) {
  const styles = useStyles();
  if (tier === DEFAULT_TIER) return null;
  return <View style={[styles.badge, centered && styles.centered]}><Text kind="tiny" tone="onSoft">{tier}</Text></View>;
}

const useStyles = makeStyles(({ colors }) => ({
  badge: { alignSelf: "flex-start", backgroundColor: colors.soft, borderRadius: radius.full, paddingHorizontal: space.s, paddingVertical: space.xxs },
  centered: { alignSelf: "center" },
}));
