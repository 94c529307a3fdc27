import { useState } from "react";
import { View } from "react-native";
import { useClient } from "@members-book/client/react";

import { useMe } from "@/lib/people";
import { fieldError, useAction, useQuery } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { space } from "@/theme";
import { Button, Field, Notice, Section, useToast } from "@/ui";
import { CodeField } from "./CodeField";

/** Changes the e-mail address: with a link to the new one where the club sends mail, else at once. */
export function EmailSection() {
  const client = useClient();
  const account = useAccount();
  const me = useMe();
  const { toast } = useToast();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const { data: factor } = useQuery("second factor", () => account.secondFactor());
  /** Where a link is on its way to. */
  const [sentTo, setSentTo] = useState<string>();
  const { busy, failure, run } = useAction();
  /** Also where it was not known yet when it was asked for. */
  const needsCode = factor?.enabled === true || fieldError(failure, "code") !== undefined;
  const ready = email.trim() !== "" && password !== "" && (!needsCode || code.trim() !== "");
  const submit = () => {
    if (!ready) return;
    void run(async () => {
      const changed = await account.changeEmail({ email: email.trim(), password, ...(needsCode ? { code } : {}) });
      setSentTo(changed ? undefined : email.trim());
      setEmail("");
      setPassword("");
      setCode("");
      if (!changed) return;
      await client.refreshMember().catch(() => undefined);
      toast(`Your e-mail address is ${changed.email} now.`);
    });
  };
  return (
    <Section title="E-mail address" text={`You sign in with ${me.email}.`}>
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      {sentTo !== undefined && sentTo !== me.email ? (
        <Notice tone="soft" text={`If nobody else has it, a mail is on its way to ${sentTo}. Open the link in it within 30 minutes; until then your address stays as it is.`} />
      ) : null}
      <View style={{ gap: space.l }} role="form" aria-label="E-mail address">
        <Field
          label="New e-mail address" value={email} onChangeText={setEmail} keyboardType="email-address" autoCapitalize="none" autoComplete="email" error={fieldError(failure, "email")}
        />
        <Field
          label="Password of the account" value={password} onChangeText={setPassword} secureTextEntry autoComplete="current-password" onSubmitEditing={submit} error={fieldError(failure, "password")}
        />
        {needsCode ? <CodeField value={code} onChange={setCode} onSubmit={submit} error={fieldError(failure, "code")} /> : null}
        <Button label="Change the address" kind="secondary" busy={busy} disabled={!ready} onPress={submit} style={{ alignSelf: "flex-start" }} />
      </View>
    </Section>
  );
}
