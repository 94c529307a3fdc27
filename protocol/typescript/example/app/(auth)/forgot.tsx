import { useState } from "react";
import { View } from "react-native";
import { useRouter } from "expo-router";

import { fieldError, useAction } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { useSendsNone } from "@/lib/setup";
import { AuthFrame } from "@/shell/AuthFrame";
import { space } from "@/theme";
import { Button, Field, Notice, Text } from "@/ui";

/** Asks for a link that sets a new password. Whether anybody has the address is not told. */
export default function Forgot() {
  const account = useAccount();
  const router = useRouter();
  const sendsNone = useSendsNone();
  const [email, setEmail] = useState("");
  const [sent, setSent] = useState<string>();
  const { busy, failure, run } = useAction(false);
  const back = () => router.replace("/sign-in");
  const submit = () => {
    const address = email.trim();
    if (address === "") return;
    void run(async () => {
      await account.forgotPassword(address);
      setSent(address);
    });
  };
  if (failure?.code === "mail_unavailable") {
    return (
      <AuthFrame title="The club sends no mail" text="So no link can be sent to you. Ask whoever runs the server for one: it leads to where you choose a new password.">
        <Button label="Back to sign in" onPress={back} />
      </AuthFrame>
    );
  }
  // A server for development takes the request, and has nobody to send it with.
  if (sent !== undefined && sendsNone) {
    return (
      <AuthFrame title="The link is in the server's log" text={`This server sends no mail. If ${sent} belongs to a member, whoever runs the server finds the link in its log. It is good for 30 minutes.`}>
        <Button label="Back to sign in" onPress={back} />
      </AuthFrame>
    );
  }
  if (sent !== undefined) {
    return (
      <AuthFrame title="Look into your mail" text={`If ${sent} belongs to a member, a link is on its way there. It is good for 30 minutes.`}>
        <Text kind="small" tone="muted">Nothing there? Look into the folder for spam, and check the address.</Text>
        <Button label="Back to sign in" onPress={back} />
      </AuthFrame>
    );
  }
  return (
    <AuthFrame title="Forgot your password?" text={sendsNone ? "With a link you choose a new one." : "We send you a link with which you choose a new one."}>
      {sendsNone ? <Notice tone="warn" text="This server sends no mail, so no link can come to you. Ask whoever runs the server for one." /> : null}
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Forgot your password?">
        <Field
          label="E-mail" value={email} onChangeText={setEmail} inputMode="email" autoComplete="email" autoCapitalize="none" autoCorrect={false} onSubmitEditing={submit}
          error={fieldError(failure, "email")}
        />
        <Button label={sendsNone ? "Ask the server for a link" : "Send the link"} busy={busy} disabled={email.trim() === ""} onPress={submit} />
        <Button label="Back to sign in" kind="plain" onPress={back} />
      </View>
    </AuthFrame>
  );
}
