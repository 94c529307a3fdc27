import { Pressable, View } from "react-native";

import { webOnly } from "@/lib/platform";
import { makeStyles, radius, space, TARGET, useTheme } from "@/theme";
import { Icon } from "./Icon";
import { Text } from "./Text";

/** Something that is so, or not. */
export function Checkbox({ label, checked, onChange }: { label: string; checked: boolean; onChange: (checked: boolean) => void }) {
  const styles = useStyles();
  const { colors } = useTheme();
  // What is no button is pressed by Enter only, and a checkbox is by Space.
  const onKeyDown = (event: { key: string; preventDefault: () => void }) => {
    if (event.key !== " ") return;
    event.preventDefault();
    onChange(!checked);
  };
  return (
    <Pressable role="checkbox" aria-label={label} aria-checked={checked} {...webOnly({ onKeyDown })} onPress={() => onChange(!checked)} style={({ pressed }) => [styles.row, pressed && styles.pressed]}>
      <View style={checked ? styles.checked : styles.box}>{checked ? <Icon name="check" size={18} color={colors.onPrimary} /> : null}</View>
      <Text style={styles.label}>{label}</Text>
    </Pressable>
  );
}

const useStyles = makeStyles(({ colors }) => {
  const box = { width: 24, height: 24, borderRadius: radius.s, borderWidth: 2, borderColor: colors.outline, alignItems: "center", justifyContent: "center" } as const;
  return {
    row: { flexDirection: "row", alignItems: "center", gap: space.m, minHeight: TARGET },
    box,
    checked: { ...box, backgroundColor: colors.primary, borderColor: colors.primary },
    label: { flex: 1 },
    pressed: { opacity: 0.75 },
  };
});
