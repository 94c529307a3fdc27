import type { ReactNode } from "react";
import { ActivityIndicator, View } from "react-native";

import type { Failure } from "@/lib/query";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Button } from "./Button";
import { Icon } from "./Icon";
import type { IconName } from "./icons";
import { Text } from "./Text";

/** Nothing is here: why, and what to do. */
export function Empty({ icon, title, text, action, children }: {
  icon: IconName; title: string; text: string; action?: { label: string; onPress: () => void }; children?: ReactNode;
}) {
  const styles = useStyles();
  const { colors } = useTheme();
  return (
    <View style={styles.center}>
      <View style={styles.circle}><Icon name={icon} size={30} color={colors.primary} /></View>
      <Text kind="heading" level={2} style={styles.text}>{title}</Text>
      <Text tone="muted" style={styles.text}>{text}</Text>
      {children}
      {action ? <Button label={action.label} onPress={action.onPress} kind="secondary" /> : null}
    </View>
  );
}

/** It did not load. */
export function Failed({ failure, onRetry }: { failure: Failure; onRetry: () => void }) {
  const styles = useStyles();
  const { colors } = useTheme();
  return (
    <View style={styles.center} role="alert">
      <Icon name={failure.code === "network" ? "cloudOff" : "alert"} size={30} color={colors.danger} />
      <Text style={styles.text}>{failure.message}</Text>
      <Button label="Try again" icon="retry" onPress={onRetry} kind="secondary" />
    </View>
  );
}

export function Loading({ label = "Loading" }: { label?: string }) {
  const styles = useStyles();
  const { colors } = useTheme();
  return (
    <View style={styles.center} role="progressbar" aria-label={label} aria-busy>
      <ActivityIndicator color={colors.primary} size="large" aria-hidden />
    </View>
  );
}

/** A note above or below what it is about. */
export function Notice({ tone, text }: { tone: "danger" | "warn" | "soft"; text: string }) {
  const styles = useStyles();
  const { colors } = useTheme();
  const color = { danger: "danger", warn: "onWarn", soft: "onSoft" } as const;
  const fill = { danger: colors.dangerSoft, warn: colors.warnSoft, soft: colors.soft }[tone];
  return (
    <View style={[styles.notice, { backgroundColor: fill }]} role={tone === "danger" ? "alert" : "status"}>
      <Icon name={tone === "soft" ? "check" : "alert"} size={18} color={colors[color[tone]]} />
      <Text kind="small" tone={color[tone]} style={styles.grow}>{text}</Text>
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  center: { flexGrow: 1, alignItems: "center", justifyContent: "center", gap: space.m, padding: space.xl },
  circle: { width: 64, height: 64, borderRadius: radius.full, alignItems: "center", justifyContent: "center", backgroundColor: colors.soft },
  text: { textAlign: "center", maxWidth: 420 },
  notice: { flexDirection: "row", gap: space.s, alignItems: "flex-start", padding: space.m, borderRadius: radius.m },
  grow: { flex: 1 },
}));
