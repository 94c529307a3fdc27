import { useState } from "react";
import { View } from "react-native";
import type { SecondFactor } from "@members-book/client";

import { CodeField } from "@/account/CodeField";
import { Enrolment } from "@/account/Enrolment";
import { RecoveryCodes } from "@/account/RecoveryCodes";
import { left } from "@/account/SecondFactorSection";
import { useUnkeptCodes } from "@/account/unkept";
import { useMe } from "@/lib/people";
import { fieldError, useAction, useQuery } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { dateTime } from "@/lib/time";
import { space } from "@/theme";
import { Button, Failed, Field, Loading, Notice, ScrollScreen, Section, useToast } from "@/ui";

/** The second factor: turning it on and off, and its recovery codes. */
export default function SecondFactorScreen() {
  const account = useAccount();
  const me = useMe();
  const { toast } = useToast();
  const { data, failure, reload } = useQuery("second factor", () => account.secondFactor());
  const { codes, setCodes } = useUnkeptCodes();
  const shown = (next: readonly string[]) => {
    setCodes(next);
    reload();
  };
  const changed = (said: string) => {
    toast(said);
    reload();
  };
  let content;
  if (codes) content = <RecoveryCodes codes={codes} email={me.email} onKept={() => setCodes(undefined)} />;
  else if (!data) content = failure ? <Failed failure={failure} onRetry={reload} /> : <Loading label="Loading the second factor" />;
  else if (data.enabled) content = <On state={data} onCodes={shown} onOff={() => changed("The second factor is off")} />;
  else content = <Enrolment onCodes={shown} />;
  return (
    <ScrollScreen title="Second factor" back="/settings">
      {data?.required && !data.enabled ? <Notice tone="warn" text="The club demands a second factor of its administrators: until you turn it on you cannot administer." /> : null}
      {content}
    </ScrollScreen>
  );
}

function On({ state, onCodes, onOff }: { state: SecondFactor; onCodes: (codes: readonly string[]) => void; onOff: () => void }) {
  const { enabled_at, recovery_codes_left, required } = state;
  return (
    <>
      <Section title="It is on" text={`${enabled_at === null ? "" : `Since ${dateTime(enabled_at)}. `}${left(recovery_codes_left)}.`}>
        <Notice tone="soft" text="Whoever signs in as you needs your password and a code of your authenticator app, or a recovery code." />
      </Section>
      <NewCodes onCodes={onCodes} />
      <Off required={required} onOff={onOff} />
    </>
  );
}

function NewCodes({ onCodes }: { onCodes: (codes: readonly string[]) => void }) {
  const account = useAccount();
  const [code, setCode] = useState("");
  const { busy, failure, run } = useAction();
  const submit = () => {
    if (code.trim() !== "") void run(async () => onCodes((await account.replaceRecoveryCodes(code)).recovery_codes));
  };
  return (
    <Section title="New recovery codes" text="When few are left, or somebody may have seen them. Those of before are good no more.">
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="New recovery codes">
        <CodeField value={code} onChange={setCode} onSubmit={submit} error={fieldError(failure, "code")} />
        <Button label="Make new recovery codes" kind="secondary" busy={busy} disabled={code.trim() === ""} onPress={submit} style={{ alignSelf: "flex-start" }} />
      </View>
    </Section>
  );
}

function Off({ required, onOff }: { required: boolean; onOff: () => void }) {
  const account = useAccount();
  const [code, setCode] = useState("");
  const [password, setPassword] = useState("");
  const { busy, failure, run } = useAction();
  const complete = code.trim() !== "" && password !== "";
  const submit = () => {
    if (!complete) return;
    void run(async () => {
      await account.disableSecondFactor({ code, password });
      onOff();
    });
  };
  const text = "Also when you get another phone: turn it off with the old one or a recovery code, and on again with the new one.";
  return (
    <Section title="Turn it off" text={required ? `${text} Until it is on again you cannot administer the club.` : text}>
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Turn off the second factor">
        <Field label="Your password" value={password} onChangeText={setPassword} secureTextEntry autoComplete="current-password" error={fieldError(failure, "password")} />
        <CodeField value={code} onChange={setCode} onSubmit={submit} error={fieldError(failure, "code")} />
        <Button label="Turn off the second factor" kind="danger" busy={busy} disabled={!complete} onPress={submit} style={{ alignSelf: "flex-start" }} />
      </View>
    </Section>
  );
}
