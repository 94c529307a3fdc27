import type { ConversationId, ConversationKind, ConversationSettings, Entry, MemberId, Watermarks } from "./protocol.js";
import type { Erasure } from "./storage.js";
import type { Problem } from "./types.js";

/**
 * The form of what is stored. A change of it comes with a step in `migrate.ts`. It also grows with a version that learns a new push: a cursor stands for what came before it, also for
 * pushes that an older version did not know and has passed over. So a cursor is kept under the name of its schema, and the first sync of another one brings everything. It does not grow for a
 * field of what is kept as it came (`settings`, an entry): the version before has kept it.
 *
 * 2: messages are pushed as `entry`.
 */
export const SCHEMA_VERSION = 2;

/** How a conversation is stored. */
export interface ConversationRecord {
  /** Absent before its first message is stored by the server. */
  id?: ConversationId;
  kind: ConversationKind;
  members: Watermarks[];
  /** The newest entry that is known of. */
  lastSeq: number;
  /** What is here of the log: everything from `first` to `to`, without holes. Nothing if `to` is 0. */
  first: number;
  to: number;
  /** Unread as the server counted, for entries up to `countedTo`. */
  unread: number;
  unreadMore: boolean;
  countedTo: number;
  /** Messages of others after `countedTo`. */
  later: number;
  /** The member has read up to here; the server may not know. */
  readWanted: number;
  /** How much is unread has to be asked. */
  recount: boolean;
  /** The newest entry that is shown. */
  last?: Entry;
  /** In milliseconds since the Unix epoch. */
  lastAt: number;
  /** What the member has set, and the revision of it: missing in what a version kept that knew nothing of it. */
  settings?: ConversationSettings | undefined;
  revision?: number;
}

/** Of a conversation of which nothing is here. */
export const NO_LOG = { first: 0, to: 0, lastSeq: 0, unread: 0, unreadMore: false, countedTo: 0, later: 0, readWanted: 0, recount: false, revision: 0, settings: undefined };

/** How a message that the server does not have is stored. */
export interface OutboxRecord {
  /** The `client_id`. */
  id: string;
  /** The key of its conversation. */
  conversation: string;
  content: string;
  /** When it was written, in milliseconds since the Unix epoch. */
  at: number;
  /** The `seq` of what it answers: missing if it answers nothing, and in what a version kept that knew nothing of it. */
  replyTo?: number;
  /** Why the server refused it for good. */
  problem?: Problem;
}

/** How is stored up to where a conversation was read, as long as the server may not know. */
export interface ReadRecord {
  /** Its key. */
  conversation: string;
  read: number;
}

/** The cursor. `partial`: of a `sync` frame, so the sync has more. */
export interface CursorRecord {
  cursor: string;
  partial: boolean;
}

/** The keys of what is stored of one member. */
export class Keys {
  readonly cursor: string;
  readonly me: string;
  /** Conversations have to be listed to the end. */
  readonly listing: string;
  constructor(readonly member: MemberId) {
    this.cursor = `${member}/cursor${SCHEMA_VERSION}`;
    this.me = `${member}/me`;
    this.listing = `${member}/listing`;
  }
  get all(): [string, string] { return around(`${this.member}/`); }
  get conversations(): [string, string] { return around(`${this.member}/c/`); }
  get entries(): [string, string] { return around(`${this.member}/e/`); }
  get outbox(): [string, string] { return around(`${this.member}/o/`); }
  get cards(): [string, string] { return around(`${this.member}/p/`); }
  conversation(key: string): string { return `${this.member}/c/${key}`; }
  /** Entries of a conversation: `first <= seq < end`. */
  log(key: string, first: number, end: number): [string, string] { return [this.entry(key, first), this.entry(key, end)]; }
  entry(key: string, seq: number): string { return `${this.member}/e/${key}/${padded(seq)}`; }
  /** What was read, and not said: with what was not sent, so that it stays as long as that. */
  reading(key: string): string { return `${this.member}/o/r/${key}`; }
  outgoing(order: number): string { return `${this.member}/o/${padded(order)}`; }
  card(member: MemberId): string { return `${this.member}/p/${member}`; }
}

/** After the id of a member in an `Erasure`. */
export const KEEP_UNSENT = "-sent";

/** The keys of what has to go. */
export function rangesOf(erasure: Erasure): [string, string][] {
  const [what = ""] = erasure.split(".");
  const [member = ""] = what.split("-");
  const { all: [from, to], outbox: [first, end] } = new Keys(member);
  return what === member ? [[from, to]] : [[from, first], [end, to]];
}

/** The keys of what is stored of other members. */
export function rangesOfOthers({ all }: Keys): [string, string][] {
  const stays = [all, around(DEVICE_KEY)].sort(([a], [b]) => (a < b ? -1 : 1));
  const ends = ["0", ...stays.flat(), "g"];
  return [0, 2, 4].map((at) => [ends[at] ?? "", ends[at + 1] ?? ""]);
}

/** Of the device, whoever is signed in. */
export const DEVICE_KEY = "device";
export const PROOFS_KEY = `${DEVICE_KEY}/proof`;
/** The ids of erasures that are done in this storage, and may be noted still. */
export const ERASED_KEY = `${DEVICE_KEY}/erased`;
export const SCHEMA_KEY = "schema";

/** Everything that begins with a prefix. */
function around(prefix: string): [string, string] {
  return [prefix, `${prefix}~`];
}

function padded(number: number): string {
  return String(number).padStart(16, "0");
}
