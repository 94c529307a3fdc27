import { useState } from "react";
import { View } from "react-native";
import { Redirect, useLocalSearchParams, useRouter } from "expo-router";
import { useClient, useSession } from "@members-book/client/react";
import type { SignedOutReason } from "@members-book/client";

import { SecondStep } from "@/account/SecondStep";
import { useEnter } from "@/lib/form";
import { failureOf, fieldError, useAction } from "@/lib/query";
import type { Failure } from "@/lib/query";
import { useClub } from "@/lib/setup";
import { dateTime } from "@/lib/time";
import { AuthFrame } from "@/shell/AuthFrame";
import { ServerField } from "@/shell/ServerField";
import { space } from "@/theme";
import { Button, Field, Notice } from "@/ui";

const REASONS: Record<SignedOutReason, string | undefined> = {
  logged_out: undefined,
  session_over: "Your session is over. Sign in again: what was not sent yet is kept, until somebody else signs in here.",
  deactivated: "This account may not sign in at the moment. Sign in to see why, or ask an administrator of the club.",
};

/** Whether it is the password or the link that is missing, the server tells nobody. */
const OR_UNVERIFIED = "The e-mail address or the password is wrong, or the address is not confirmed yet. If you have registered, open the link in the mail that we sent you, then sign in. If the password is right, we have sent it again.";

/** Why signing in failed, in words. */
function wordsFor(failure: Failure, sendsMail: boolean): string {
  if (failure.until) return `An administrator has suspended you until ${dateTime(failure.until)}.`;
  return failure.code === "invalid_credentials" && sendsMail ? OR_UNVERIFIED : failure.message;
}

export default function SignIn() {
  const client = useClient();
  const router = useRouter();
  const session = useSession();
  const club = useClub();
  /** Somebody has an account, although the club has no administrator yet. */
  const { anyway } = useLocalSearchParams<{ anyway?: string }>();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  /** The password was right, and a code of the second factor is wanted. */
  const [asked, setAsked] = useState(false);
  const { busy, failure, run, clear } = useAction(false);

  // Why it failed just now is newer than why nobody is signed in.
  const reason = !failure && session.status === "signed_out" && session.reason ? REASONS[session.reason] : undefined;
  const complete = email.trim() !== "" && password !== "";
  const login = (code?: string) => void run(async () => {
    try {
      await client.login({ email: email.trim(), password, ...(code === undefined ? {} : { second_factor: code }) });
    } catch (cause) {
      const why = failureOf(cause).code;
      setAsked(why === "second_factor_required" || (code !== undefined && why !== "invalid_credentials"));
      if (why !== "second_factor_required") throw cause;
    }
  });
  const submit = () => login();
  const back = () => {
    clear();
    setAsked(false);
  };
  const enter = useEnter(complete, submit);
  if (club?.setup_needed && !anyway) return <Redirect href="/register" />;
  if (asked) return <SecondStep busy={busy} failure={failure} onCode={login} onBack={back} />;
  return (
    <AuthFrame title="Sign in" text="To the club, with your e-mail and password.">
      {club?.setup_needed ? <Notice tone="warn" text="This club has no administrator yet. Who has the setup code, which the server prints where it is started, can become the first one." /> : null}
      {reason ? <Notice tone="warn" text={reason} /> : null}
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={wordsFor(failure, club?.sends_mail ?? false)} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Sign in">
        <Field
          label="E-mail" value={email} onChangeText={setEmail} inputMode="email" autoComplete="email" autoCapitalize="none" autoCorrect={false}
          {...enter(0)} error={fieldError(failure, "email")}
        />
        <Field
          label="Password" value={password} onChangeText={setPassword} secureTextEntry autoComplete="current-password"
          {...enter(1)} error={fieldError(failure, "password")}
        />
        <Button label="Sign in" busy={busy} disabled={!complete} onPress={submit} />
        <Button label="Forgot your password?" kind="plain" onPress={() => router.push("/forgot")} />
        {club?.setup_needed ? <Button label="Enter the setup code" kind="secondary" onPress={() => router.replace("/register")} />
          : club?.registration === "closed" ? null : <Button label="Make an account" name="Make an account, if you are new here" kind="secondary" onPress={() => router.replace("/register")} />}
      </View>
      <ServerField />
    </AuthFrame>
  );
}
