import { useState } from "react";
import { View } from "react-native";

import { space } from "@/theme";
import { Button, Field } from "@/ui";

interface Props {
  value: string;
  onChange: (code: string) => void;
  onSubmit: () => void;
  error?: string | undefined;
  autoFocus?: boolean;
}

/** A code of the second factor: of the authenticator app, or a recovery code. */
export function CodeField({ value, onChange, onSubmit, error, autoFocus = false }: Props) {
  const [recovery, setRecovery] = useState(false);
  const turn = () => {
    setRecovery(!recovery);
    onChange("");
  };
  return (
    <View style={{ gap: space.s }}>
      {recovery ? (
        <Field
          key="recovery" label="Recovery code" hint="One of the ten that you have kept. Each is good once." value={value} onChangeText={onChange} autoCapitalize="characters" autoCorrect={false}
          autoComplete="off" maxLength={64} autoFocus onSubmitEditing={onSubmit} error={error}
        />
      ) : (
        <AppCodeField key="app" value={value} onChange={onChange} onSubmit={onSubmit} error={error} autoFocus={autoFocus} />
      )}
      <Button label={recovery ? "Use the authenticator app" : "Use a recovery code"} kind="plain" compact onPress={turn} style={{ alignSelf: "flex-start" }} />
    </View>
  );
}

/** A code of the authenticator app. */
export function AppCodeField({ value, onChange, onSubmit, error, autoFocus = false }: Props) {
  return (
    <Field
      label="Code" hint="The six digits that your authenticator app shows for the club." value={value} onChangeText={onChange} inputMode="numeric" autoComplete="one-time-code"
      maxLength={16} autoFocus={autoFocus} onSubmitEditing={onSubmit} error={error}
    />
  );
}
