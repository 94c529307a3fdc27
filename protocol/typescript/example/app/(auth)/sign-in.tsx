import { useRef, useState } from "react";
import { View } from "react-native";
import type { TextInput } from "react-native";
import { Redirect, useRouter } from "expo-router";
import { useClient, useSession } from "@members-book/client/react";
import type { SignedOutReason } from "@members-book/client";

import { drafts } from "@/lib/drafts";
import { fieldError, useAction } from "@/lib/query";
import { useClub } from "@/lib/setup";
import { dateTime } from "@/lib/time";
import { AuthFrame } from "@/shell/AuthFrame";
import { ServerField } from "@/shell/ServerField";
import { space } from "@/theme";
import { Button, Field, Notice } from "@/ui";

const REASONS: Record<SignedOutReason, string | undefined> = {
  logged_out: undefined,
  session_over: "Your session is over. Sign in again: what was not sent yet is kept.",
  deactivated: "This account may not sign in at the moment. Sign in to see why, or ask an administrator of the club.",
};

export default function SignIn() {
  const client = useClient();
  const router = useRouter();
  const session = useSession();
  const club = useClub();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const { busy, failure, run } = useAction();
  const second = useRef<TextInput>(null);
  if (club?.setup_needed) return <Redirect href="/register" />;

  const reason = session.status === "signed_out" && session.reason ? REASONS[session.reason] : undefined;
  const submit = () => void run(async () => {
    const before = session.status === "signed_out" ? session.reason : undefined;
    await client.login({ email: email.trim(), password });
    if (before === "logged_out") drafts.clear();
  });
  return (
    <AuthFrame title="Welcome back" text="Sign in to the club.">
      {reason ? <Notice tone="warn" text={reason} /> : null}
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.until ? `An administrator has suspended you until ${dateTime(failure.until)}.` : failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Sign in">
        <Field
          label="E-mail" value={email} onChangeText={setEmail} inputMode="email" autoComplete="email" autoCapitalize="none" autoCorrect={false}
          returnKeyType="next" onSubmitEditing={() => second.current?.focus()} submitBehavior="submit" error={fieldError(failure, "email")}
        />
        <Field
          label="Password" value={password} onChangeText={setPassword} secureTextEntry autoComplete="current-password" inputRef={second}
          onSubmitEditing={submit} error={fieldError(failure, "password")}
        />
        <Button label="Sign in" busy={busy} disabled={email.trim() === "" || password === ""} onPress={submit} />
        {club?.registration === "closed" ? null : <Button label="New here? Make an account" kind="plain" onPress={() => router.replace("/register")} />}
      </View>
      <ServerField />
    </AuthFrame>
  );
}
