import { useState } from "react";
import { View } from "react-native";
import { useRouter } from "expo-router";
import { useClient, useSession } from "@members-book/client/react";

import { useLinkToken } from "@/lib/link";
import { fieldError, useAction } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { useClub } from "@/lib/setup";
import { AuthFrame } from "@/shell/AuthFrame";
import { space } from "@/theme";
import { Button, Field, Notice } from "@/ui";

/** Where the link of a mail leads that confirms the address. Confirmed by a button, because programs that look through mail open links too. */
export default function Verify() {
  const client = useClient();
  const account = useAccount();
  const router = useRouter();
  const { status } = useSession();
  const club = useClub();
  const token = useLinkToken();
  const [password, setPassword] = useState("");
  /** Nobody has signed in to the account yet, or it is to have another address: who reads the mail has to be whose account it is. */
  const [asked, setAsked] = useState(false);
  const [done, setDone] = useState(false);
  const { busy, failure, run } = useAction();
  const home = () => router.replace("/");
  if (done) {
    // Whether this account waits is told to whoever has its password only.
    const then = club?.registration === "approval" ? "If you have asked to join without an invitation, an administrator of the club has to let you in first. Otherwise you can sign in now." : "You can sign in now.";
    return (
      <AuthFrame title="Your address is confirmed" text={status === "signed_in" ? "Thank you." : `Thank you. ${then}`}>
        <Button label="Go on" onPress={home} />
      </AuthFrame>
    );
  }
  if (token === undefined || failure?.code === "link_invalid") {
    return (
      <AuthFrame title="This link is not good any more" text="It was used, another one for the same was, or it is older than 30 minutes. Sign in to get another one if your address is not confirmed yet.">
        <Button label="Go on" onPress={home} />
      </AuthFrame>
    );
  }
  const refused = fieldError(failure, "password") !== undefined;
  if (refused && !asked) setAsked(true);
  const confirm = () => {
    if (asked && password === "") return;
    void run(async () => {
      await account.verifyEmail(token, asked ? password : undefined);
      if (status === "signed_in") await client.refreshMember().catch(() => undefined);
      setDone(true);
    });
  };
  return (
    <AuthFrame title="Confirm your e-mail address" text="So that the club knows that it is yours, and you can get back in if you forget your password.">
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Confirm your e-mail address">
        {asked ? (
          <Field
            label="Password" hint="The one of your account. If it was not you who registered, or who asked for this address, close this page: nothing happens." value={password} onChangeText={setPassword} secureTextEntry
            autoComplete="current-password" autoFocus onSubmitEditing={confirm} error={refused && password !== "" ? "This is not the password of the account. If you have forgotten it, ask for a new one where you sign in." : undefined}
          />
        ) : null}
        <Button label="Confirm" busy={busy} disabled={asked && password === ""} onPress={confirm} />
      </View>
    </AuthFrame>
  );
}
