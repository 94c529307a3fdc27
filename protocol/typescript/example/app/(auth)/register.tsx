import { useState } from "react";
import { View } from "react-native";
import { useLocalSearchParams, useRouter } from "expo-router";
import { useClient } from "@members-book/client/react";
import type { RegistrationPolicy } from "@members-book/client";

import { useEnter } from "@/lib/form";
import { fieldError, useAction } from "@/lib/query";
import { useClub } from "@/lib/setup";
import { isWhole, useInvitation } from "@/members/invitation";
import { AuthFrame } from "@/shell/AuthFrame";
import { ServerField } from "@/shell/ServerField";
import { space } from "@/theme";
import { Button, Field, Loading, Notice, Text } from "@/ui";

const TEXTS: Record<RegistrationPolicy, string> = {
  open: "Make an account. What others see of you is up to you.",
  invite: "The club takes members by invitation. Enter the code that somebody gave you.",
  approval: "An administrator of the club decides about new members. With an invitation you are in at once.",
  closed: "The club takes no members at the moment.",
};

export default function Register() {
  const club = useClub();
  const [waits, setWaits] = useState(false);
  const [sent, setSent] = useState<string>();
  if (!club) return <Loading />;
  if (waits) return <Waits />;
  if (sent !== undefined) return <Sent to={sent} approval={club.registration === "approval"} />;
  if (club.registration === "closed" && !club.setup_needed) return <Closed />;
  return <Account setup={club.setup_needed} policy={club.registration} onWaits={() => setWaits(true)} onSent={setSent} />;
}

/** `anyway`: although the club has no administrator yet. */
function ToSignIn({ label, anyway = false }: { label: string; anyway?: boolean }) {
  const router = useRouter();
  return <Button label={label} kind="plain" onPress={() => router.replace(anyway ? { pathname: "/sign-in", params: { anyway: "1" } } : "/sign-in")} />;
}

function Closed() {
  return (
    <AuthFrame title="The club is closed" text={TEXTS.closed}>
      <ToSignIn label="Have an account? Sign in" />
      <ServerField />
    </AuthFrame>
  );
}

function Waits() {
  return (
    <AuthFrame title="Almost there" text="Your registration waits for an administrator of the club. Once it is approved, you can sign in with your e-mail and password.">
      <Notice tone="warn" text="Nothing is sent to you when that happens: come back and sign in." />
      <ToSignIn label="Go to sign in" />
    </AuthFrame>
  );
}

/** Nobody is signed in before they have followed the link. */
function Sent({ to, approval }: { to: string; approval: boolean }) {
  const then = approval ? "After that you can sign in; without an invitation, once an administrator of the club has let you in." : "After that you can sign in.";
  return (
    <AuthFrame title="Look into your mail" text={`We have sent a mail to ${to}. Open the link in it within 30 minutes. ${then}`}>
      <Text kind="small" tone="muted">Nothing there? Look into the folder for spam, or sign in: that sends the link again.</Text>
      <ToSignIn label="Go to sign in" />
    </AuthFrame>
  );
}

interface AccountProps {
  setup: boolean;
  policy: RegistrationPolicy;
  onWaits: () => void;
  /** With the address that the link was sent to. */
  onSent: (email: string) => void;
}

function Account({ setup, policy, onWaits, onSent }: AccountProps) {
  const client = useClient();
  const link = useLocalSearchParams<{ invitation?: string }>().invitation ?? "";
  const [code, setCode] = useState("");
  const [invitation, setInvitation] = useState(link);
  const [name, setName] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const { busy, failure, run } = useAction(false);
  const checked = useInvitation(setup ? "" : invitation);
  const needed = setup ? code.trim() !== "" : policy !== "invite" || isWhole(invitation);
  const complete = name.trim() !== "" && email.trim() !== "" && password !== "" && needed;
  const submit = () => {
    if (!complete) return;
    const account = { name: name.trim(), email: email.trim(), password };
    void run(async () => {
      if (setup) return client.setup({ code: code.trim(), ...account });
      const registered = await client.register({ ...account, ...(invitation.trim() === "" ? {} : { invitation: invitation.trim() }) });
      if (registered.status === "pending") onWaits();
      if (registered.status === "verify_email") onSent(account.email);
      return registered;
    });
  };
  const shown = !setup && (policy !== "open" || link !== "");
  const welcome = checked.good && `${checked.good.invited_by} has invited you. You come in as ${checked.good.tier}.`;
  const enter = useEnter(complete, submit);
  return (
    <AuthFrame title={setup ? "Make the club" : "Join the club"} text={setup ? "This club has no administrator yet: with the setup code you become the first one." : TEXTS[policy]}>
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label={setup ? "Make the club" : "Make an account"}>
        {setup ? (
          <Field
            label="Setup code" hint="The server prints it where it is started." value={code} onChangeText={setCode} autoCapitalize="none" autoCorrect={false} autoComplete="off"
            {...enter(0)} error={fieldError(failure, "code")}
          />
        ) : null}
        {shown ? (
          <Field
            label={policy === "approval" ? "Invitation code (if you have one)" : "Invitation code"} hint={welcome ?? "Sixteen letters and digits; case and hyphens do not matter."} value={invitation}
            onChangeText={setInvitation} autoCapitalize="characters" autoCorrect={false} autoComplete="off" maxLength={64} {...enter(0)} error={checked.problem ?? fieldError(failure, "invitation")}
          />
        ) : null}
        <Field label="Name" value={name} onChangeText={setName} autoComplete="name" autoCapitalize="words" maxLength={100} {...enter(1)} error={fieldError(failure, "name")} />
        <Field label="E-mail" value={email} onChangeText={setEmail} inputMode="email" autoComplete="email" autoCapitalize="none" autoCorrect={false} {...enter(2)} error={fieldError(failure, "email")} />
        <Field
          label="Password" hint="At least 8 characters." value={password} onChangeText={setPassword} secureTextEntry autoComplete="new-password" {...enter(3)}
          error={fieldError(failure, "password")}
        />
        <Button label={setup ? "Make the club" : policy === "approval" && invitation.trim() === "" ? "Ask to join" : "Make an account"} busy={busy} disabled={!complete} onPress={submit} />
        <ToSignIn label="Have an account? Sign in" anyway={setup} />
      </View>
      <ServerField />
    </AuthFrame>
  );
}
