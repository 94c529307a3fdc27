import { useState } from "react";
import { View } from "react-native";

import type { Failure } from "@/lib/query";
import { AuthFrame } from "@/shell/AuthFrame";
import { space } from "@/theme";
import { Button, Notice, Text } from "@/ui";
import { CodeField } from "./CodeField";

const WRONG = "This code is not good, or not any more. Wait for the next one of the app, and check that the clock of the phone is right.";

interface Props {
  busy: boolean;
  failure: Failure | undefined;
  /** Signs in with a code. */
  onCode: (code: string) => void;
  onBack: () => void;
}

/** The password was right, and the member has a second factor: asks for a code of it. */
export function SecondStep({ busy, failure, onCode, onBack }: Props) {
  const [code, setCode] = useState("");
  const wrong = failure?.code === "second_factor_invalid";
  const complete = code.trim() !== "";
  const submit = () => {
    if (complete) onCode(code.trim());
  };
  return (
    <AuthFrame title="One more step" text="You have a second factor: your password alone is not enough.">
      {failure && !wrong ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="One more step">
        <CodeField value={code} onChange={setCode} onSubmit={submit} error={wrong ? WRONG : undefined} autoFocus />
        <Button label="Sign in" busy={busy} disabled={!complete} onPress={submit} />
        <Button label="Back" kind="plain" onPress={onBack} />
      </View>
      <Text kind="small" tone="muted">Lost the phone and the recovery codes? An administrator of the club can take the second factor away, if you can show them that it is you.</Text>
    </AuthFrame>
  );
}
