import { useCallback, useState } from "react";
import { View } from "react-native";
import type { ConversationSettings, ConversationView } from "@members-book/client";
import { useConversationSettings } from "@members-book/client/react";

import { useAction } from "@/lib/query";
import { useTicking } from "@/lib/ticking";
import { dateTime } from "@/lib/time";
import { space, useTheme } from "@/theme";
import { Button, Icon, IconButton, Notice, Sheet, Text, Unseen } from "@/ui";
import { muted, mutedUntil, MUTES, unmuted } from "./mute";

/** Shown in the header of a chat: mutes it, and says whether it is. Nothing before the first message. */
export function MuteButton({ info: { key, id, settings } }: { info: ConversationView }) {
  const [open, setOpen] = useState(false);
  const isMuted = useMuted(settings);
  if (!id) return null;
  return (
    <>
      <IconButton icon={isMuted ? "bellOff" : "bell"} label={isMuted ? "Muted. Change notifications" : "Mute notifications"} onPress={() => setOpen(true)} />
      <Sheet open={open} title={MUTE_TITLE} onClose={() => setOpen(false)}><MuteChoices conversationKey={key} onClose={() => setOpen(false)} /></Sheet>
    </>
  );
}

/** The sign in the list that a conversation is muted. */
export function MutedMark({ settings }: { settings: ConversationSettings | undefined }) {
  const { colors } = useTheme();
  if (!useMuted(settings)) return null;
  return <><Icon name="bellOff" size={16} color={colors.muted} /><Unseen>muted </Unseen></>;
}

/** Whether a conversation is muted now. It ends by itself. */
function useMuted(settings: ConversationSettings | undefined): boolean {
  return useTicking(useCallback((now: number) => (mutedUntil(settings, now) === undefined ? "" : "muted"), [settings])) !== "";
}

export const MUTE_TITLE = "Notifications of this chat";

/** What a sheet with that title has. */
export function MuteChoices({ conversationKey, onClose }: { conversationKey: string; onClose: () => void }) {
  const { settings, configure } = useConversationSettings(conversationKey);
  const { busy, failure, run } = useAction();
  const set = (wanted: ConversationSettings) => void run(() => configure(wanted)).then((well) => well && onClose());
  const until = mutedUntil(settings, Date.now());
  return (
    <>
      <Text tone="muted">{untilText(until)}</Text>
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.s }}>
        {until === undefined ? null : <Button label="Turn on" icon="bell" busy={busy} onPress={() => set(unmuted(settings))} />}
        {MUTES.map(({ label, hours }) => (
          <Button key={label} label={label} icon="bellOff" kind="secondary" disabled={busy} onPress={() => set(muted(settings, hours, Date.now()))} />
        ))}
        <Button label="Cancel" kind="plain" onPress={onClose} />
      </View>
    </>
  );
}

function untilText(until: number | undefined): string {
  if (until === undefined) return "Mute it on all of your devices. Messages still arrive, and the other member does not see it.";
  return until === Infinity ? "Muted until you turn it on again." : `Muted until ${dateTime(until)}.`;
}
