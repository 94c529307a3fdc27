import { useRef } from "react";
import { Pressable, View } from "react-native";

import { webOnly } from "@/lib/platform";
import { makeStyles, radius, space } from "@/theme";
import { Text } from "./Text";

interface Props<T extends string> {
  label: string;
  /** The label is shown, not only said. */
  showLabel?: boolean;
  options: readonly { value: T; label: string }[];
  value: T;
  onChange: (value: T) => void;
  disabled?: boolean;
}

interface KeyEvent {
  key: string;
  preventDefault: () => void;
}

/** One of a few: radio buttons that look like chips. One stop for the tab key; the arrow keys choose. */
export function Choice<T extends string>({ label, showLabel = false, options, value, onChange, disabled = false }: Props<T>) {
  const styles = useStyles();
  const chips = useRef(new Map<T, View>());
  const onKeyDown = (event: KeyEvent) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const index = options.findIndex((option) => option.value === value);
    const next = options[(index + step + options.length) % options.length];
    if (!next) return;
    onChange(next.value);
    chips.current.get(next.value)?.focus();
  };
  return (
    <View style={styles.group}>
      {showLabel ? <Text kind="label" aria-hidden>{label}</Text> : null}
      <View role="radiogroup" aria-label={label} style={styles.chips} {...webOnly({ onKeyDown })}>
        {options.map((option) => {
          const chosen = option.value === value;
          return (
            <Pressable
              key={option.value} role="radio" aria-checked={chosen} aria-label={option.label} aria-disabled={disabled} disabled={disabled}
              ref={(chip) => void (chip ? chips.current.set(option.value, chip) : chips.current.delete(option.value))}
              {...webOnly({ tabIndex: chosen ? 0 : -1 })}
              onPress={() => onChange(option.value)} style={({ pressed }) => [styles.chip, chosen && styles.chosen, pressed && styles.pressed]}
            >
              <Text kind="label" tone={chosen ? "onSoft" : "text"}>{option.label}</Text>
            </Pressable>
          );
        })}
      </View>
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  group: { gap: space.xs },
  chips: { flexDirection: "row", flexWrap: "wrap", gap: space.s },
  chip: {
    minHeight: 38, justifyContent: "center", paddingHorizontal: space.m, borderRadius: radius.full, borderWidth: 1,
    borderColor: colors.outline, backgroundColor: colors.surface,
  },
  chosen: { backgroundColor: colors.soft, borderColor: colors.primary },
  pressed: { opacity: 0.75 },
}));
