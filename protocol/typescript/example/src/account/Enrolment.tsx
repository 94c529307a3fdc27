import { useState } from "react";
import { Image, Linking, View } from "react-native";
import type { SecondFactorEnrolment } from "@members-book/client";

import { copy } from "@/lib/copy";
import { isWeb } from "@/lib/platform";
import { fieldError, useAction } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { makeStyles, radius, space } from "@/theme";
import { Button, Field, Notice, Section, Text, useToast } from "@/ui";
import { AppCodeField } from "./CodeField";

/** There are no recovery codes yet: the words of the server, which name them, do not fit. */
const WRONG = "This code is not right. Wait for the next one of the app; if that is not right either, is the clock of the phone right?";

/** Turns the second factor on: the password, then the authenticator app, then a code of it. `onCodes`: it is on, and these are the recovery codes. */
export function Enrolment({ onCodes }: { onCodes: (codes: readonly string[]) => void }) {
  const [begun, setBegun] = useState<SecondFactorEnrolment>();
  return begun ? <Confirm enrolment={begun} onCodes={onCodes} onAgain={() => setBegun(undefined)} /> : <Begin onBegun={setBegun} />;
}

function Begin({ onBegun }: { onBegun: (enrolment: SecondFactorEnrolment) => void }) {
  const account = useAccount();
  const [password, setPassword] = useState("");
  const { busy, failure, run } = useAction(false);
  const submit = () => {
    if (password !== "") void run(async () => onBegun(await account.beginSecondFactor(password)));
  };
  return (
    <Section title="Turn it on" text="You need an authenticator app: Google Authenticator, Microsoft Authenticator, Aegis, or a password manager that makes codes.">
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Turn on the second factor">
        <Field
          label="Your password" value={password} onChangeText={setPassword} secureTextEntry autoComplete="current-password" onSubmitEditing={submit}
          error={fieldError(failure, "password")}
        />
        <Button label="Go on" busy={busy} disabled={password === ""} onPress={submit} style={{ alignSelf: "flex-start" }} />
      </View>
    </Section>
  );
}

interface ConfirmProps {
  enrolment: SecondFactorEnrolment;
  onCodes: (codes: readonly string[]) => void;
  onAgain: () => void;
}

function Confirm({ enrolment: { enrolment, qr, secret, uri }, onCodes, onAgain }: ConfirmProps) {
  const styles = useStyles();
  const account = useAccount();
  const { toast } = useToast();
  const [code, setCode] = useState("");
  const { busy, failure, run } = useAction();
  const over = fieldError(failure, "enrolment") !== undefined;
  const submit = () => {
    if (code.trim() !== "") void run(async () => onCodes((await account.confirmSecondFactor(enrolment, code)).recovery_codes));
  };
  if (over) {
    return (
      <Section title="That took too long">
        <Notice tone="warn" text="There are ten minutes for it. Begin again, and remove what you have added to the app: it does not count any more." />
        <Button label="Begin again" onPress={onAgain} style={{ alignSelf: "flex-start" }} />
      </Section>
    );
  }
  const copied = async () => toast((await copy(secret)) ? "Key copied" : "This browser does not let the page copy: mark the key, and copy it.");
  return (
    <Section title="Add the club to your authenticator app">
      <Text tone="muted">{isWeb ? "Scan this picture with the app:" : "Scan this picture with the app on another device, or open the app on this one:"}</Text>
      <View style={styles.paper}><Image source={{ uri: qr }} style={styles.code} alt="A code to be scanned with the authenticator app" accessibilityLabel="A code to be scanned with the authenticator app" /></View>
      {isWeb ? null : <Button label="Open the app" kind="secondary" onPress={() => void Linking.openURL(uri).catch(() => toast("There is no authenticator app on this device."))} style={styles.start} />}
      <Text tone="muted">Or type this key into it:</Text>
      <Text kind="strong" selectable style={styles.key}>{(secret.match(/.{1,4}/g) ?? []).join(" ")}</Text>
      <Button label="Copy the key" kind="secondary" onPress={() => void copied()} style={styles.start} />
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Confirm the second factor">
        <AppCodeField value={code} onChange={setCode} onSubmit={submit} error={fieldError(failure, "code") && WRONG} />
        <Button label="Turn it on" busy={busy} disabled={code.trim() === ""} onPress={submit} style={styles.start} />
      </View>
    </Section>
  );
}

const useStyles = makeStyles(() => ({
  // White in the dark, too: not every camera reads it the other way round.
  paper: { alignSelf: "flex-start", padding: space.s, borderRadius: radius.m, backgroundColor: "#ffffff" },
  code: { width: 200, height: 200 },
  key: { letterSpacing: 1, fontVariant: ["tabular-nums"] },
  start: { alignSelf: "flex-start" },
}));
