import { View } from "react-native";
import { useRouter } from "expo-router";
import { useClient } from "@members-book/client/react";

import { LeaveSection } from "@/account/LeaveSection";
import { logoutQuestion } from "@/account/logout";
import { MailSection } from "@/account/MailSection";
import { EmailSection } from "@/account/EmailSection";
import { PasswordSection } from "@/account/PasswordSection";
import { SecondFactorSection } from "@/account/SecondFactorSection";
import { usePush } from "@/push/context";
import { saveText } from "@/lib/files";
import { useMe } from "@/lib/people";
import { useAction } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { Devices } from "@/settings/Devices";
import { Notifications } from "@/settings/Notifications";
import { mayInvite, useClub } from "@/lib/setup";
import { space, useThemeState } from "@/theme";
import type { Appearance } from "@/theme";
import { Button, Choice, Notice, ScrollScreen, Section, useConfirm, useToast } from "@/ui";

const APPEARANCES: readonly { value: Appearance; label: string }[] = [
  { value: "system", label: "As the device" }, { value: "light", label: "Light" }, { value: "dark", label: "Dark" },
];

export default function Settings() {
  const client = useClient();
  const push = usePush();
  const account = useAccount();
  const me = useMe();
  const router = useRouter();
  const club = useClub();
  const confirm = useConfirm();
  const { toast } = useToast();
  const { appearance, setAppearance } = useThemeState();
  const leaving = useAction(false);
  const data = useAction(false);

  const logOut = async (all: boolean) => {
    if (!(await confirm(logoutQuestion(client.unsent(), all)))) return;
    await leaving.run(() => push.logout(all ? { all } : {}));
  };
  const exportData = () => void data.run(async () => {
    await saveText("members-book-export.json", JSON.stringify(await account.export(), null, 2));
    toast("Your data was exported");
  });
  return (
    <ScrollScreen title="Settings">
      {leaving.failure ? <Notice tone="danger" text={leaving.failure.message} /> : null}
      <Section title="Appearance">
        <Choice label="Appearance" options={APPEARANCES} value={appearance} onChange={setAppearance} />
      </Section>
      <Section title="Session" text={`Signed in as ${me.email}.`}>
        <View style={{ flexDirection: "row", flexWrap: "wrap", gap: space.s }}>
          <Button label="Log out" kind="secondary" icon="logout" busy={leaving.busy} onPress={() => void logOut(false)} />
          <Button label="Log out everywhere" kind="secondary" disabled={leaving.busy} onPress={() => void logOut(true)} />
        </View>
      </Section>
      <Notifications />
      <EmailSection />
      <PasswordSection />
      <SecondFactorSection />
      <Devices />
      <MailSection />
      {mayInvite(club, me) ? (
        <Section title="Invitations" text="Bring somebody into the club.">
          <Button label="Invite" kind="secondary" icon="mail" onPress={() => router.push("/invite")} style={{ alignSelf: "flex-start" }} />
        </Section>
      ) : null}
      <Section title="My data" text="Your record, your sessions, what was recommended to you and every conversation, as one file.">
        {data.failure ? <Notice tone="danger" text={data.failure.message} /> : null}
        <Button label="Export my data" kind="secondary" icon="download" busy={data.busy} onPress={exportData} style={{ alignSelf: "flex-start" }} />
      </Section>
      <LeaveSection />
    </ScrollScreen>
  );
}
