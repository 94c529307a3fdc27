import { useState } from "react";
import { View } from "react-native";
import type { Session } from "@members-book/client";

import { fieldError, useAction, useQuery } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { dateTime } from "@/lib/time";
import { makeStyles, space } from "@/theme";
import { Button, Failed, Field, Icon, Loading, Notice, Section, Sheet, Text, useConfirm, useToast } from "@/ui";
import type { IconName } from "@/ui";

const PLATFORMS = { ios: "iPhone or iPad", android: "Android", web: "Browser", desktop: "Computer", other: "Another device" } as const;
const ICONS: Record<keyof typeof PLATFORMS, IconName> = { ios: "phone", android: "phone", web: "screen", desktop: "screen", other: "plug" };

function nameOf({ device }: Session): string {
  return device.name ?? (device.platform ? PLATFORMS[device.platform] : "Unknown device");
}

/** Where the member is signed in: what each place is, when it was used, and a way to end it. */
export function Devices() {
  const styles = useStyles();
  const account = useAccount();
  const confirm = useConfirm();
  const { toast } = useToast();
  const { data, failure, reload, setData } = useQuery("sessions", async () => (await account.sessions()).sessions);
  const [renamed, setRenamed] = useState<Session>();
  const ending = useAction();

  const end = async (session: Session) => {
    const text = "It is signed out at once. Whoever uses it needs your e-mail and password to come back.";
    if (!(await confirm({ title: `Sign out ${nameOf(session)}?`, text, confirm: "Sign out" }))) return;
    if (await ending.run(() => account.endSession(session._id))) toast("Signed out");
    // Also when it failed: it may have ended by itself.
    reload();
  };
  const endOthers = async () => {
    const text = "Every other device and browser is signed out at once. This one stays signed in.";
    if (!(await confirm({ title: "Sign out everywhere else?", text, confirm: "Sign out the others" }))) return;
    if (await ending.run(() => account.endOtherSessions())) toast("All others were signed out");
    reload();
  };
  const replaced = (session: Session) => setData((sessions) => sessions?.map((known) => (known._id === session._id ? session : known)));
  const others = data?.filter((session) => !session.is_current) ?? [];
  return (
    <Section title="Where you are signed in" text="Something here that you do not know? Sign it out, and it needs your password to come back.">
      {ending.failure ? <Notice tone="danger" text={ending.failure.message} /> : null}
      {data === undefined ? failure ? <Failed failure={failure} onRetry={reload} /> : <Loading label="Loading where you are signed in" /> : (
        <View role="list" style={styles.list}>
          {data.map((session) => (
            <Device key={session._id} session={session} busy={ending.busy} onRename={() => setRenamed(session)} onEnd={() => void end(session)} />
          ))}
        </View>
      )}
      {others.length > 0 ? <Button label="Sign out everywhere else" kind="secondary" disabled={ending.busy} onPress={() => void endOthers()} style={styles.start} /> : null}
      {renamed ? <Rename key={renamed._id} session={renamed} onClose={() => setRenamed(undefined)} onRenamed={replaced} /> : null}
    </Section>
  );
}

function Device({ session, busy, onRename, onEnd }: { session: Session; busy: boolean; onRename: () => void; onEnd: () => void }) {
  const styles = useStyles();
  const name = nameOf(session);
  const { platform } = session.device;
  const { address, last_address: last } = session;
  const moved = last && last !== address ? `last from ${last}` : undefined;
  const facts = [session.device.name && platform ? PLATFORMS[platform] : undefined, address ?? undefined, `since ${dateTime(session.created_at)}`, moved];
  return (
    <View role="listitem" style={styles.device}>
      <View style={styles.icon}><Icon name={ICONS[platform ?? "other"]} color={styles.tint.color} /></View>
      <View style={styles.words}>
        <Text kind="strong">{name}</Text>
        <Text kind="small" tone={session.is_current ? "primary" : "muted"}>{session.is_current ? "This device" : `Used last ${dateTime(session.last_used_at)}`}</Text>
        <Text kind="tiny" tone="muted">{facts.filter(Boolean).join(" · ")}</Text>
        <View style={styles.buttons}>
          <Button compact label="Rename" name={`Rename ${name}`} kind="secondary" icon="pencil" disabled={busy} onPress={onRename} />
          {session.is_current ? null : <Button compact label="Sign out" name={`Sign out ${name}`} kind="secondary" icon="logout" disabled={busy} onPress={onEnd} />}
        </View>
      </View>
    </View>
  );
}

function Rename({ session, onClose, onRenamed }: { session: Session; onClose: () => void; onRenamed: (session: Session) => void }) {
  const styles = useStyles();
  const account = useAccount();
  const [name, setName] = useState(nameOf(session));
  const { busy, failure, run } = useAction();
  const save = () => void run(async () => {
    onRenamed(await account.renameSession(session._id, name));
    onClose();
  });
  const error = fieldError(failure, "name");
  return (
    <Sheet open title={session.is_current ? "Rename this device" : "Rename a device"} onClose={onClose}>
      {failure && error === undefined ? <Notice tone="danger" text={failure.message} /> : null}
      <Field label="Name" value={name} onChangeText={setName} error={error} autoFocus maxLength={100} returnKeyType="done" onSubmitEditing={save} />
      <View style={styles.answers}>
        <Button label="Cancel" kind="secondary" onPress={onClose} />
        <Button label="Save" busy={busy} disabled={name.trim() === ""} onPress={save} />
      </View>
    </Sheet>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  list: { gap: space.l },
  start: { alignSelf: "flex-start" },
  device: { flexDirection: "row", gap: space.m },
  icon: { width: 40, height: 40, borderRadius: 20, alignItems: "center", justifyContent: "center", backgroundColor: colors.soft },
  tint: { color: colors.primary },
  words: { flex: 1, minWidth: 0, gap: 2 },
  buttons: { flexDirection: "row", flexWrap: "wrap", gap: space.s, paddingTop: space.xs },
  answers: { flexDirection: "row", flexWrap: "wrap", justifyContent: "flex-end", gap: space.s },
}));
