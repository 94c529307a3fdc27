import { useRouter } from "expo-router";
import { useClient, useSession } from "@members-book/client/react";

import { useState } from "react";

import { useLinkToken } from "@/lib/link";
import { useAction } from "@/lib/query";
import { AuthFrame } from "@/shell/AuthFrame";
import { Button, Notice } from "@/ui";

/** Where the link of a mail leads that confirms the address. Confirmed by a button, because programs that look through mail open links too. */
export default function Verify() {
  const client = useClient();
  const router = useRouter();
  const { status } = useSession();
  const token = useLinkToken();
  const [done, setDone] = useState(false);
  const { busy, failure, run } = useAction();
  const home = () => router.replace("/");
  if (done) {
    return (
      <AuthFrame title="Your address is confirmed" text={status === "signed_in" ? "Thank you." : "Thank you. You can sign in now."}>
        <Button label="Go on" onPress={home} />
      </AuthFrame>
    );
  }
  if (token === undefined || failure?.code === "link_invalid") {
    return (
      <AuthFrame title="This link is not good any more" text="It was used, is older than 30 minutes, or a newer one was sent. Sign in to get another one if your address is not confirmed yet.">
        <Button label="Go on" onPress={home} />
      </AuthFrame>
    );
  }
  const confirm = () => void run(async () => {
    await client.api.verifyEmail(token);
    if (status === "signed_in") await client.refreshMember().catch(() => undefined);
    setDone(true);
  });
  return (
    <AuthFrame title="Confirm your e-mail address" text="So that the club knows that it is yours, and you can get back in if you forget your password.">
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <Button label="Confirm" busy={busy} onPress={confirm} />
    </AuthFrame>
  );
}
