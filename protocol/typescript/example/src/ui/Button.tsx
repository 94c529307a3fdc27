import { ActivityIndicator, Pressable, View } from "react-native";
import type { StyleProp, ViewStyle } from "react-native";

import { makeStyles, radius, space, TARGET, useTheme } from "@/theme";
import { Icon } from "./Icon";
import type { IconName } from "./icons";
import { Text } from "./Text";

export type ButtonKind = "primary" | "secondary" | "plain" | "danger";

interface ButtonProps {
  label: string;
  onPress: () => void;
  kind?: ButtonKind;
  icon?: IconName;
  /** Longer than the label, where the label alone says too little. Has to begin with it. */
  name?: string;
  disabled?: boolean;
  busy?: boolean;
  compact?: boolean;
  style?: StyleProp<ViewStyle>;
}

export function Button({ label, onPress, kind = "primary", icon, name, disabled = false, busy = false, compact = false, style }: ButtonProps) {
  const styles = useStyles();
  const { colors } = useTheme();
  const color = { primary: colors.onPrimary, secondary: colors.text, plain: colors.primary, danger: colors.onDanger }[kind];
  const off = disabled || busy;
  return (
    <Pressable
      role="button" aria-label={name ?? label} aria-disabled={off} aria-busy={busy} disabled={off} onPress={onPress}
      style={({ pressed }) => [styles.base, styles[kind], compact && styles.compact, pressed && styles.pressed, off && styles.off, style]}
    >
      {busy ? <ActivityIndicator size="small" color={color} aria-hidden /> : icon ? <Icon name={icon} color={color} size={18} /> : null}
      <Text kind="label" style={{ color }} numberOfLines={2}>{label}</Text>
    </Pressable>
  );
}

interface IconButtonProps {
  icon: IconName;
  label: string;
  onPress: () => void;
  filled?: boolean;
  disabled?: boolean;
  /** A small number in its corner. */
  badge?: string | undefined;
}

export function IconButton({ icon, label, onPress, filled = false, disabled = false, badge }: IconButtonProps) {
  const styles = useStyles();
  const { colors } = useTheme();
  return (
    <Pressable
      role="button" aria-label={label} aria-disabled={disabled} disabled={disabled} onPress={onPress} hitSlop={4}
      style={({ pressed }) => [styles.icon, filled && styles.primary, pressed && styles.pressed, disabled && styles.off]}
    >
      <Icon name={icon} color={filled ? colors.onPrimary : colors.text} />
      {badge === undefined ? null : <View style={styles.badge}><Text kind="tiny" tone="onPrimary">{badge}</Text></View>}
    </Pressable>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  base: {
    minHeight: TARGET, flexDirection: "row", alignItems: "center", justifyContent: "center", gap: space.s,
    paddingHorizontal: space.l, paddingVertical: space.s, borderRadius: radius.m, borderWidth: 1, borderColor: "transparent",
  },
  compact: { minHeight: 36, paddingHorizontal: space.m, paddingVertical: space.xs },
  primary: { backgroundColor: colors.primary },
  secondary: { backgroundColor: colors.surface, borderColor: colors.outline },
  plain: { backgroundColor: "transparent" },
  danger: { backgroundColor: colors.danger },
  pressed: { opacity: 0.75 },
  off: { opacity: 0.5 },
  icon: { width: TARGET, height: TARGET, borderRadius: radius.full, alignItems: "center", justifyContent: "center" },
  badge: {
    position: "absolute", top: -6, right: -6, minWidth: 20, height: 20, borderRadius: 10, paddingHorizontal: 5,
    alignItems: "center", justifyContent: "center", backgroundColor: colors.primary, borderWidth: 1, borderColor: colors.surface,
  },
}));
