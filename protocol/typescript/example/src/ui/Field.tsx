import { useId } from "react";
import type { Ref } from "react";
import { TextInput, View } from "react-native";
import type { TextInputProps } from "react-native";

import { webOnly } from "@/lib/platform";
import { makeStyles, radius, space, TARGET, type, useTheme } from "@/theme";
import { Text } from "./Text";

interface Props extends Omit<TextInputProps, "style"> {
  label: string;
  hint?: string | undefined;
  error?: string | undefined;
  inputRef?: Ref<TextInput>;
}

/** A text field with its label, what it is for, and what is wrong with it. */
export function Field({ label, hint, error, inputRef, ...rest }: Props) {
  const styles = useStyles();
  const { colors } = useTheme();
  const id = useId();
  const note = error ?? hint;
  return (
    <View style={styles.field}>
      <Text kind="label" nativeID={`${id}-label`}>{label}</Text>
      <TextInput
        ref={inputRef} aria-label={label} placeholderTextColor={colors.muted} selectionColor={colors.primary}
        {...webOnly({ "aria-labelledby": `${id}-label`, "aria-invalid": error !== undefined, "aria-describedby": note === undefined ? undefined : `${id}-note` })}
        {...rest} style={[styles.input, error !== undefined && styles.wrong]}
      />
      {note === undefined ? null : (
        <Text kind="small" tone={error === undefined ? "muted" : "danger"} nativeID={`${id}-note`} aria-live={error === undefined ? "off" : "polite"}>{note}</Text>
      )}
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  field: { gap: space.xs },
  input: {
    ...type.body, minHeight: TARGET, color: colors.text, backgroundColor: colors.surface, borderWidth: 1, borderColor: colors.outline,
    borderRadius: radius.m, paddingHorizontal: space.m, paddingVertical: space.s,
  },
  wrong: { borderColor: colors.danger, borderWidth: 2 },
}));
