import { View } from "react-native";
import { useClient } from "@members-book/client/react";
import type { Language } from "@members-book/client";

import { useMe } from "@/lib/people";
import { useAction } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { space } from "@/theme";
import { Choice, Notice, Section, Text } from "@/ui";

const LANGUAGES: readonly { value: Language | "club"; label: string }[] = [
  { value: "club", label: "As the club" }, { value: "en", label: "English" }, { value: "pt", label: "Português" },
];

/** In which language mails come, and whether the address is confirmed. */
export function MailSection() {
  const client = useClient();
  const account = useAccount();
  const me = useMe();
  const { busy, failure, run } = useAction();
  const choose = (value: Language | "club") => void run(async () => {
    await account.setLanguage(value === "club" ? null : value);
    await client.refreshMember();
  });
  return (
    <Section title="Mail" text={`Mails to you go to ${me.email}.`}>
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.s }}>
        <Choice label="Language of mails" showLabel options={LANGUAGES} value={me.language ?? "club"} onChange={choose} disabled={busy} />
        {me.email_verified_at ? <Text kind="small" tone="muted">Your address is confirmed.</Text> : null}
      </View>
    </Section>
  );
}
