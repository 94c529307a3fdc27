import { useState } from "react";
import { View } from "react-native";
import { useRouter } from "expo-router";
import { useSession } from "@members-book/client/react";

import { useLinkToken } from "@/lib/link";
import { fieldError, useAction } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { AuthFrame } from "@/shell/AuthFrame";
import { space } from "@/theme";
import { Button, Field, Notice } from "@/ui";

/** Where the link of a mail leads that sets a new password. */
export default function Reset() {
  const account = useAccount();
  const router = useRouter();
  const { status } = useSession();
  const token = useLinkToken();
  const [password, setPassword] = useState("");
  const [done, setDone] = useState(false);
  const { busy, failure, run } = useAction();
  const home = () => router.replace("/");
  const submit = () => {
    if (token === undefined || password === "") return;
    void run(async () => {
      await account.resetPassword(token, password);
      setDone(true);
    });
  };
  if (done) {
    return (
      <AuthFrame title="Your password is set" text="Every device was signed out. Sign in with the new password.">
        <Button label="Go on" onPress={home} />
      </AuthFrame>
    );
  }
  const over = token === undefined || failure?.code === "link_invalid";
  if (over) {
    return (
      <AuthFrame title="This link is not good any more" text="It was used, another one for the same was, it is older than 30 minutes, or the password was changed since. Ask for another one if you still need it.">
        {status === "signed_in" ? null : <Button label="Ask for another link" onPress={() => router.replace("/forgot")} />}
        <Button label="Go on without" kind="plain" onPress={home} />
      </AuthFrame>
    );
  }
  return (
    <AuthFrame title="Choose a new password" text="It is good from now on, and signs out every device.">
      {failure && failure.fields.length === 0 ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.l }} role="form" aria-label="Choose a new password">
        <Field
          label="New password" hint="At least 8 characters." value={password} onChangeText={setPassword} secureTextEntry autoComplete="new-password" onSubmitEditing={submit}
          error={fieldError(failure, "new_password")}
        />
        <Button label="Set the password" busy={busy} disabled={password === ""} onPress={submit} />
      </View>
    </AuthFrame>
  );
}
