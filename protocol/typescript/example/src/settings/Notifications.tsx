import { useState } from "react";
import { View } from "react-native";
import type { PushContent, PushSettings, PushStatus, QuietHours } from "@members-book/client/push";

import { isWeb } from "@/lib/platform";
import { fieldError, useAction, useQuery } from "@/lib/query";
import { usePushSettings } from "@/lib/rest";
import { useClub } from "@/lib/setup";
import { dateTime } from "@/lib/time";
import { usePush, usePushState } from "@/push/context";
import { makeStyles, space } from "@/theme";
import { Button, Checkbox, Choice, Failed, Field, Loading, Notice, Section, Text, useToast } from "@/ui";

const CONTENTS: readonly { value: PushContent; label: string }[] = [
  { value: "full", label: "Sender and text" }, { value: "sender", label: "Sender" }, { value: "nothing", label: "Nothing of it" },
];
const HERE = isWeb ? "in this browser" : "on this device";
const WORDS: Record<PushStatus, string> = {
  unknown: "Whether notifications are on is not known at the moment.",
  unavailable: isWeb ? "This browser has no notifications for this page. On an iPhone or iPad, put the app on the Home Screen first." : "This device has no notifications.",
  blocked: isWeb ? "Notifications of this page are blocked in the settings of the browser." : "Notifications of this app are turned off in the settings of the device.",
  undecided: `Notifications are off ${HERE}.`,
  off: `Notifications are off ${HERE}.`,
  on: `Notifications are on ${HERE}.`,
};
const PLATFORMS = { ios: "iPhone or iPad", android: "Android", web: "Browser", desktop: "Computer", other: "Another device" } as const;

/** What is told by notifications, when, and where. Nothing where the server has none. */
export function Notifications() {
  const enabled = useClub()?.push?.enabled ?? false;
  return enabled ? <Enabled /> : null;
}

function Enabled() {
  const { status, device } = usePushState();
  const rest = usePushSettings();
  // Another device is in the list when this one was turned on or off.
  const { data, failure, reload, setData } = useQuery(`push ${status} ${device}`, () => rest.settings());
  return (
    <Section title="Notifications" text="Messages that a device does not get at once are pushed to it.">
      <ThisDevice />
      {data === undefined ? failure ? <Failed failure={failure} onRetry={reload} /> : <Loading label="Loading notifications" /> : (
        <>
          <Content settings={data} onChanged={(settings) => setData(() => settings)} />
          <Quiet settings={data} onChanged={(settings) => setData(() => settings)} />
          <Registered settings={data} />
        </>
      )}
    </Section>
  );
}

function ThisDevice() {
  const styles = useStyles();
  const push = usePush();
  const { status, problem } = usePushState();
  const { busy, failure, run } = useAction();
  const club = useClub();
  const keyed = !isWeb || club?.push?.web_key !== null;
  return (
    <View style={styles.part}>
      <Text>{keyed ? WORDS[status] : "The club's server sends no notifications to browsers."}</Text>
      {problem || failure ? <Notice tone="warn" text={problem?.message ?? failure?.message ?? ""} /> : null}
      {status === "on" ? (
        <Button label="Turn off here" kind="secondary" busy={busy} onPress={() => void run(() => push.disable())} style={styles.start} />
      ) : status === "off" || status === "undecided" ? (
        <Button label="Turn on here" kind="secondary" busy={busy} onPress={() => void run(() => push.enable())} style={styles.start} />
      ) : null}
    </View>
  );
}

interface Part {
  settings: PushSettings;
  onChanged: (settings: PushSettings) => void;
}

function Content({ settings, onChanged }: Part) {
  const rest = usePushSettings();
  const { busy, failure, run } = useAction();
  // From the most to the least: the club may show less than a member has chosen.
  const most = Math.max(0, CONTENTS.findIndex(({ value }) => value === settings.content_max));
  const offered = CONTENTS.slice(most);
  const shown = offered.find(({ value }) => value === settings.content)?.value ?? settings.content_max ?? settings.content;
  const choose = (content: PushContent) => void run(async () => onChanged(await rest.change({ content })));
  return (
    <>
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <Choice label="What a notification shows" showLabel options={offered} value={shown} onChange={choose} disabled={busy} />
    </>
  );
}

function Quiet({ settings, onChanged }: Part) {
  const styles = useStyles();
  const rest = usePushSettings();
  const { toast } = useToast();
  const known = settings.quiet_hours;
  const [form, setForm] = useState(() => ({ on: known !== null, from: known?.from ?? "22:00", until: known?.until ?? "07:00" }));
  const { busy, failure, run } = useAction();
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const wanted: QuietHours | null = form.on ? { from: form.from.trim(), until: form.until.trim(), time_zone: known?.time_zone ?? timeZone } : null;
  const changed = wanted?.from !== known?.from || wanted?.until !== known?.until;
  const save = () => void run(async () => {
    onChanged(await rest.change({ quiet_hours: wanted }));
    toast("Quiet hours saved");
  });
  const errorOf = (name: "from" | "until") => fieldError(failure, `quiet_hours.${name}`);
  const said = failure && errorOf("from") === undefined && errorOf("until") === undefined;
  return (
    <View style={styles.part}>
      {said ? <Notice tone="danger" text={failure.message} /> : null}
      <Checkbox label="Quiet hours: what comes then is told at their end" checked={form.on} onChange={(on) => setForm({ ...form, on })} />
      {form.on ? (
        <View style={styles.times}>
          <View style={styles.time}><Field label="Quiet from" value={form.from} onChangeText={(from) => setForm({ ...form, from })} maxLength={5} placeholder="22:00" error={errorOf("from")} autoComplete="off" /></View>
          <View style={styles.time}><Field label="Quiet until" value={form.until} onChangeText={(until) => setForm({ ...form, until })} maxLength={5} placeholder="07:00" error={errorOf("until")} autoComplete="off" /></View>
        </View>
      ) : null}
      {wanted ? <Text kind="small" tone="muted">In the time of {wanted.time_zone}.</Text> : null}
      {changed ? <Button label="Save quiet hours" kind="secondary" busy={busy} onPress={save} style={styles.start} /> : null}
    </View>
  );
}

function Registered({ settings }: { settings: PushSettings }) {
  const styles = useStyles();
  const { device } = usePushState();
  if (settings.devices.length === 0) return null;
  return (
    <View style={styles.part}>
      <Text kind="label">Where notifications go</Text>
      <View role="list" style={styles.part}>
        {settings.devices.map((each) => (
          <View key={each.device} role="listitem">
            <Text>{PLATFORMS[each.platform]}</Text>
            <Text kind="tiny" tone={each.device === device ? "primary" : "muted"}>{each.device === device ? (isWeb ? "This browser" : "This device") : `since ${dateTime(each.registered_at)}`}</Text>
          </View>
        ))}
      </View>
      <Text kind="small" tone="muted">Another one is told nothing any more once it is signed out, below.</Text>
    </View>
  );
}

const useStyles = makeStyles(() => ({
  part: { gap: space.s },
  start: { alignSelf: "flex-start" },
  times: { flexDirection: "row", flexWrap: "wrap", gap: space.m },
  time: { width: 140 },
}));
