import type { MemberId, MessageDocument } from "../../src/protocol.js";
import type { MessageView } from "../../src/types.js";
import type { Observer } from "./checker.js";
import { outline } from "./checker.js";
import type { Reader } from "./reader.js";

/** A member with the devices that are looked at. */
export interface Party {
  readonly reader: Reader;
  readonly observers: readonly Observer[];
}

/**
 * Holds what everybody shows against what the server has, once all are online and quiet. Gives everything that is not as it should be: nothing, in the end. It
 * changes nothing but that it loads older messages, so it can be asked until it is satisfied.
 */
export async function differences(parties: readonly Party[]): Promise<string[]> {
  const wrong: string[] = [];
  for (const party of parties) {
    const unread = await party.reader.unread();
    for (const other of parties) {
      if (other === party) continue;
      const log = await party.reader.messages(other.reader.person.id);
      wrong.push(...asSent(party, other.reader.person.id, log));
      const count = unread.conversations.find(({ conversation_id }) => conversation_id === log[0]?.conversation_id)?.unread ?? 0;
      for (const observer of party.observers) wrong.push(...(await asShown(observer, other.reader.person.id, log, count)).map((line) => `${observer.device.name} with ${other.reader.person.name}: ${line}`));
    }
    for (const observer of party.observers) {
      const { client, name } = observer.device;
      const state = client.connection.getSnapshot();
      if (state.status !== "online") wrong.push(`${name}: is ${state.status}`);
      if (state.storageFailing) wrong.push(`${name}: says that the storage fails`);
      if (client.unread.getSnapshot().total !== unread.total) wrong.push(`${name}: unread in all ${client.unread.getSnapshot().total}, at the server ${unread.total}`);
      const shown = observer.sent.filter(({ state: s }) => s === "kept").length;
      if (client.unsent() !== 0) wrong.push(`${name}: ${client.unsent()} of ${shown} messages are not sent`);
    }
  }
  return wrong;
}

/** What was asked for is at the server: once, and in its order. */
function asSent(party: Party, other: MemberId, log: readonly MessageDocument[]): string[] {
  const wrong: string[] = [];
  const places = new Map<string, number[]>();
  for (const { seq, content } of log) places.set(content, [...(places.get(content) ?? []), seq]);
  log.forEach(({ seq }, index) => {
    if (seq !== index + 1) wrong.push(`the log of the server has ${seq} at place ${index + 1}`);
  });
  for (const { sent } of party.observers) {
    let before = 0;
    for (const { to, content, state, dropped } of sent) {
      if (to !== other) continue;
      const [seq, again] = places.get(content) ?? [];
      if (again !== undefined) wrong.push(`${content} is at the server twice: ${seq}, ${again}`);
      if (state === "kept" && seq === undefined && !dropped) wrong.push(`${content} was kept, and is not at the server`);
      if (state === "refused" && seq !== undefined) wrong.push(`${content} was refused by the client, and is at the server`);
      if (dropped && seq !== undefined) wrong.push(`${content} was dropped, and is at the server`);
      if (seq === undefined) continue;
      if (seq < before) wrong.push(`${content} is at ${seq}, and what was sent before it at ${before}`);
      before = Math.max(before, seq);
    }
  }
  return wrong;
}

async function asShown(observer: Observer, other: MemberId, log: readonly MessageDocument[], unread: number): Promise<string[]> {
  const wrong: string[] = [];
  const handle = observer.device.client.conversation({ member: other });
  if (log.length > 0) observer.open(handle);
  const info = handle.info.getSnapshot();
  if (info.unread !== unread) wrong.push(`unread ${info.unread}, at the server ${unread}`);
  for (let state = handle.messages.getSnapshot(); state.ready && state.hasOlder; state = handle.messages.getSnapshot()) {
    const [before] = state.messages;
    await handle.loadOlder();
    if (handle.messages.getSnapshot().messages[0] === before) break;
  }
  const { messages, hasOlder, ready } = handle.messages.getSnapshot();
  if (log.length > 0 && (!ready || hasOlder)) wrong.push(`ready ${ready}, hasOlder ${hasOlder} with ${messages.length} of ${log.length}`);
  if (messages.length !== log.length) wrong.push(`${messages.length} messages are shown, the server has ${log.length}: … ${outline(messages.slice(-8))}`);
  log.forEach((entry, index) => {
    const message = messages[index];
    if (message && !same(message, entry)) wrong.push(`place ${index + 1}: shown ${JSON.stringify(message)}, at the server ${JSON.stringify(entry)}`);
  });
  const newest = log.at(-1);
  if (newest && info.last?.seq !== newest.seq) wrong.push(`the list shows ${info.last?.seq} as the newest, the server has ${newest.seq}`);
  if (newest && info.id !== newest.conversation_id) wrong.push(`the conversation is ${info.id}, at the server ${newest.conversation_id}`);
  return wrong.slice(0, 6);
}

function same(message: MessageView, entry: MessageDocument): boolean {
  return (
    message.seq === entry.seq &&
    message.content === entry.content &&
    message.sender === entry.sender_id &&
    message.at === Date.parse(entry.created_at) &&
    (!message.own || message.status === entry.status)
  );
}
