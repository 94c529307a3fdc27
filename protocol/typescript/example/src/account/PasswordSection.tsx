import { useState } from "react";
import { View } from "react-native";

import { fieldError, useAction } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { space } from "@/theme";
import { Button, Field, Notice, Section, useToast } from "@/ui";

/** Changes the password. Every other device is signed out by it. */
export function PasswordSection() {
  const account = useAccount();
  const { toast } = useToast();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const { busy, failure, run } = useAction();
  const submit = () => void run(async () => {
    await account.changePassword({ current_password: current, new_password: next });
    setCurrent("");
    setNext("");
    toast("The password is changed. Your other devices are signed out.");
  });
  return (
    <Section title="Password" text="Changing it signs out every other device and browser.">
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Password">
        <Field label="Present password" value={current} onChangeText={setCurrent} secureTextEntry autoComplete="current-password" error={fieldError(failure, "current_password")} />
        <Field
          label="New password" hint="At least 8 characters." value={next} onChangeText={setNext} secureTextEntry autoComplete="new-password"
          onSubmitEditing={submit} error={fieldError(failure, "new_password")}
        />
        <Button label="Change the password" kind="secondary" busy={busy} disabled={current === "" || next === ""} onPress={submit} style={{ alignSelf: "flex-start" }} />
      </View>
    </Section>
  );
}
