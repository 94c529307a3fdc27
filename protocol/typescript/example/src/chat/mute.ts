import type { ConversationSettings } from "@members-book/client";

const HOUR_MS = 3_600_000;

/** "Until I turn it on again": a time that nobody lives to see. */
const FOR_GOOD = "9999-01-01T00:00:00.000Z";

/** For how long a conversation can be muted. */
export const MUTES: readonly { label: string; hours?: number }[] = [
  { label: "For 1 hour", hours: 1 },
  { label: "For 8 hours", hours: 8 },
  { label: "Until I turn it on again" },
];

/** Settings that mute for so long from now on; `undefined`: for good. What else is set stays. */
export function muted(settings: ConversationSettings, hours: number | undefined, now: number): ConversationSettings {
  return { ...settings, muted_until: hours === undefined ? FOR_GOOD : new Date(now + hours * HOUR_MS).toISOString() };
}

/** Settings that do not mute. What else is set stays. */
export function unmuted({ muted_until: _, ...others }: ConversationSettings): ConversationSettings {
  return others;
}

/** Until when it is muted, in milliseconds since the Unix epoch: `Infinity` for good, nothing if it is not. */
export function mutedUntil(settings: ConversationSettings | undefined, now: number): number | undefined {
  const until = Date.parse(settings?.muted_until ?? "");
  if (!(until > now)) return undefined;
  return until >= Date.parse(FOR_GOOD) ? Infinity : until;
}
