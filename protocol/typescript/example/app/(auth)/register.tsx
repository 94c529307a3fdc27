import { useState } from "react";
import { View } from "react-native";
import { useRouter } from "expo-router";
import { useClient } from "@members-book/client/react";

import { useEnter } from "@/lib/form";
import { fieldError, useAction } from "@/lib/query";
import { useSetupNeeded } from "@/lib/setup";
import { AuthFrame } from "@/shell/AuthFrame";
import { ServerField } from "@/shell/ServerField";
import { space } from "@/theme";
import { Button, Field, Notice } from "@/ui";

export default function Register() {
  const client = useClient();
  const router = useRouter();
  const setup = useSetupNeeded();
  const [code, setCode] = useState("");
  const [name, setName] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const { busy, failure, run } = useAction();

  const complete = name.trim() !== "" && email.trim() !== "" && password !== "" && (!setup || code.trim() !== "");
  const submit = () => {
    if (!complete) return;
    const account = { name: name.trim(), email: email.trim(), password };
    void run(() => (setup ? client.setup({ code: code.trim(), ...account }) : client.register(account)));
  };
  const enter = useEnter(complete, submit);
  return (
    <AuthFrame
      title={setup ? "Make the club" : "Join the club"}
      text={setup ? "This server is new. You become its first administrator." : "Make an account. What others see of you is up to you."}
    >
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label={setup ? "Make the club" : "Make an account"}>
        {setup ? (
          <Field
            label="Setup code" hint="The server printed it when it was started." value={code} onChangeText={setCode} autoCapitalize="none" autoCorrect={false} autoComplete="off"
            {...enter(0)} error={fieldError(failure, "code")}
          />
        ) : null}
        <Field label="Name" value={name} onChangeText={setName} autoComplete="name" autoCapitalize="words" maxLength={100} {...enter(1)} error={fieldError(failure, "name")} />
        <Field label="E-mail" value={email} onChangeText={setEmail} inputMode="email" autoComplete="email" autoCapitalize="none" autoCorrect={false} {...enter(2)} error={fieldError(failure, "email")} />
        <Field
          label="Password" hint="At least 8 characters." value={password} onChangeText={setPassword} secureTextEntry autoComplete="new-password" {...enter(3)}
          error={fieldError(failure, "password")}
        />
        <Button label={setup ? "Make the club" : "Make an account"} busy={busy} disabled={!complete} onPress={submit} />
        {setup ? null : <Button label="Have an account? Sign in" kind="plain" onPress={() => router.replace("/sign-in")} />}
      </View>
      <ServerField />
    </AuthFrame>
  );
}
