import { View } from "react-native";
import type { Tier } from "@members-book/client";

import { makeStyles, radius, space } from "@/theme";
import { Text } from "@/ui";

export const TIERS: readonly Tier[] = ["Disruption", "Infinity", "Sócio"];

/** That of everybody to whom nobody has given another one: not worth a word. */
export const DEFAULT_TIER: Tier = "Disruption";

/** What each one is, as the protocol says. */
const MEANS: Record<Tier, string> = {
  Disruption: "Disruption: the tier of every new member.",
  Infinity: "Infinity: the second tier.",
  "Sócio": "Sócio: a partner of the club.",
};

/** What a tier is, below where it is chosen; of all of them, if none is. */
export function TierNote({ tier }: { tier?: Tier | undefined }) {
  const text = tier === undefined ? "The kind of membership: every new member has Disruption, Infinity is the second tier, a Sócio is a partner of the club." : MEANS[tier];
  return <Text kind="small" tone="muted">{`${text} All tiers may do the same; administrators say who is in which.`}</Text>;
}

export function TierBadge({ tier, centered = false }: { tier: Tier; centered?: boolean }) {
  const styles = useStyles();
  if (tier === DEFAULT_TIER) return null;
  return <View style={[styles.badge, centered && styles.centered]}><Text kind="tiny" tone="onSoft">{tier}</Text></View>;
}

const useStyles = makeStyles(({ colors }) => ({
  badge: { alignSelf: "flex-start", backgroundColor: colors.soft, borderRadius: radius.full, paddingHorizontal: space.s, paddingVertical: space.xxs },
  centered: { alignSelf: "center" },
}));
