import { objectIn } from "./json.js";
import type { Conversation, ConversationSettings, Entry, Member, MemberCard } from "./protocol.js";
import type { ConversationRecord, CursorRecord, OutboxRecord, ReadRecord } from "./records.js";

/** What the fields of a value have to be. `d`: a text that is a time. With `?` they may be missing, or `null`. */
type Kind = "string" | "number" | "boolean" | "object" | "d";
export type Form<T> = Partial<Record<keyof T, Kind | `${Kind}?`>>;

/** The longest text, in UTF-16 units: more than the server takes anywhere, and not so much that it stops a screen. */
const TEXT_MAX = 20_000;

/** What has to be there of what a server sends, and of what is stored: nothing else is relied on without a look. */
export const ENTRY: Form<Entry> = { id: "string", seq: "number", sender: "string", client_id: "string", content: "string", at: "d", reply_to: "number?" };
export const STATE: Form<Conversation> = { id: "string", members: "object", last_seq: "number", unread: "number", entries: "object" };
export const SETTINGS: Form<ConversationSettings> = { notify: "string", muted_until: "string?", archived: "boolean?", pinned: "boolean?" };
export const CARD: Form<MemberCard> = { id: "string", name: "string", tier: "string", updated_at: "d", profile_image_url: "string?" };
export const OWN: Form<Member> = { _id: "string", name: "string", email: "string", tier: "string", contact_info: "object", visibility: "object" };
export const OUTBOX: Form<OutboxRecord> = { id: "string", conversation: "string", content: "string", at: "number", problem: "object?" };
export const READING: Form<ReadRecord> = { conversation: "string", read: "number" };
export const CURSOR: Form<CursorRecord> = { cursor: "string" };
export const CONVERSATION: Form<ConversationRecord> = {
  members: "object", lastSeq: "number", first: "number", to: "number", unread: "number", countedTo: "number", later: "number", readWanted: "number", lastAt: "number",
  id: "string?", last: "object?", settings: "object?",
};

/** Whether a value is as it should be. */
export function fits<T>(value: T | undefined, form: Form<T>): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries<string | undefined>(form).every(([name, kind = ""]) => {
    const field = (value as Record<string, unknown>)[name];
    if (kind.endsWith("?") && (field === undefined || field === null)) return true;
    if (typeof field === "string") return field.length <= TEXT_MAX && (/^s/.test(kind) || (kind === "d" && timeOf(field) !== undefined));
    return field !== null && kind.startsWith(typeof field) && (typeof field !== "number" || Number.isFinite(field));
  });
}

/** What is stored, if it is as it should be. */
export function read<T>(text: string | undefined, form: Form<T>): T | undefined {
  const value = objectIn<object>(text) as T | undefined;
  return fits(value, form) ? value : undefined;
}

/** A time, in milliseconds since the Unix epoch, if it is one. */
export function timeOf(text: unknown): number | undefined {
  const time = typeof text === "string" ? Date.parse(text) : Number.NaN;
  return Number.isFinite(time) ? time : undefined;
}

/** Whether an entry can be kept as it is: a message as this version knows it, or what a later version will show, of which nothing is known but its place, and at most `TEXT_MAX` of JSON. */
export function sound(entry: Entry): boolean {
  if (!isPlace(entry?.seq)) return false;
  return entry.kind === "message" ? fits(entry, ENTRY) : JSON.stringify(entry).length <= TEXT_MAX;
}

/** An entry whose place is good is taken, whatever else is wrong with it: what cannot be shown is empty, so the log has no hole. */
export function mended(entry: Entry): Entry | undefined {
  if (sound(entry)) return entry;
  const { seq } = entry ?? {};
  if (!isPlace(seq)) return undefined;
  const { kind, conversation, at } = entry;
  // Of what is not shown so little that all of it is sound as it is stored, where a character may take six.
  const most = kind === "message" ? TEXT_MAX : TEXT_MAX / 40;
  const text = (value: unknown) => (typeof value === "string" ? value.slice(0, most) : "");
  const name = (value: unknown) => text(value) || `bad-${seq}`;
  return {
    kind: text(kind) as Entry["kind"], conversation: text(conversation), seq, id: name(entry.id), client_id: name(entry.client_id), sender: text(entry.sender), content: text(entry.content),
    at: new Date(timeOf(at) ?? 0).toISOString(),
  };
}

/** Whether something can be the place of an entry. */
export function isPlace(seq: unknown): seq is number {
  return Number.isSafeInteger(seq) && (seq as number) > 0;
}

/** Whether something can be the id of a member or a conversation. */
export function isId(id: string): boolean {
  return /^[0-9a-f]{24}$/.test(id);
}

/** A number of a server, within bounds; `otherwise` if it is none. */
export function within(value: unknown, least: number, most: number, otherwise: number): number {
  return typeof value === "number" && Number.isFinite(value) ? Math.min(Math.max(value, least), most) : otherwise;
}
