import type { MessageView } from "@members-book/client";

import { dayOf } from "@/lib/time";

/** Messages of one sender within this time look like one thought. */
const GROUP_MS = 5 * 60_000;

/** What the row of a message shows besides it: plain values, so that a row that has not changed is not drawn again. */
export interface RowFlags {
  /** The first message of a day. */
  readonly day: boolean;
  /** The first one that was not read when the conversation was opened. */
  readonly fresh: boolean;
  /** Follows one of the same sender closely. */
  readonly grouped: boolean;
}

export function flagsOf(message: MessageView, before: MessageView | undefined, fresh: boolean): RowFlags {
  const day = before === undefined || dayOf(before.at) !== dayOf(message.at);
  return { day, fresh, grouped: !day && !fresh && before?.sender === message.sender && message.at - before.at < GROUP_MS };
}

/** The key of the first message of others after `after`. */
export function firstFresh(messages: readonly MessageView[], after: number): string | undefined {
  // From the end: what is new is there.
  let found: string | undefined;
  for (let index = messages.length - 1; index >= 0; index--) {
    const message = messages[index];
    if (!message || (message.seq !== undefined && message.seq <= after)) break;
    if (!message.own && message.seq !== undefined) found = message.key;
  }
  return found;
}

/** The newest place that the server has given. */
export function lastSeq(messages: readonly MessageView[]): number {
  for (let index = messages.length - 1; index >= 0; index--) {
    const seq = messages[index]?.seq;
    if (seq !== undefined) return seq;
  }
  return 0;
}

/** The place of the message before that at `seq` (`by` -1), or after it; of the newest one before none, and nothing after the newest one. */
export function nextTo(messages: readonly MessageView[], seq: number | undefined, by: -1 | 1): number | undefined {
  const places = messages.flatMap((message) => message.seq ?? []);
  if (seq === undefined) return by === -1 ? places[places.length - 1] : undefined;
  const at = places.indexOf(seq);
  return at < 0 ? seq : (places[at + by] ?? (by === -1 ? seq : undefined));
}

/** How many messages of others came after a place. */
export function countAfter(messages: readonly MessageView[], after: number): number {
  let count = 0;
  for (let index = messages.length - 1; index >= 0; index--) {
    const message = messages[index];
    if (!message || (message.seq !== undefined && message.seq <= after)) break;
    if (!message.own) count++;
  }
  return count;
}
