import { fits, mended, SETTINGS, sound, timeOf, within } from "./check.js";
import { MembersBookError } from "./errors.js";
import type { Pages } from "./journal.js";
import { given, objectIn } from "./json.js";
import { problemOf } from "./problem.js";
import type { Conversation as ConversationState, ConversationKind, ConversationSettings, Entry, MemberId, Okay, Receipt, Watermarks } from "./protocol.js";
import { NO_LOG } from "./records.js";
import type { ConversationRecord, Keys } from "./records.js";
import type { ConversationView, MessagesState, MessageView, Problem, SendStatus } from "./types.js";
import { alike, Value } from "./value.js";

/** Missing entries that are fetched between what is here and what has come. If more are missing, what is here is dropped, and paged again. */
const GAP_MAX = 400;
/** Entries of a conversation that are kept on the device when nobody looks at it, at most; the newest of them that stay when there are more. */
const KEEP_MAX = 1_000;
const KEEP = 500;
/** Entries that are read from the storage at once. */
const PAGE = 50;
/** Fewer messages than these do not fill a screen. */
const SCREEN = 20;
/** Waiting entries beyond a gap, at most: more are fetched again. */
const AHEAD_MAX = 1_000;

/** Unread messages are counted up to here, by the server and by the client. */
const UNREAD_MAX = 1_000;
const NOTHING: MessagesState = { messages: [], ready: false, hasOlder: false, loadingOlder: false, readUpTo: 0 };

/** What all conversations of a member share. */
export interface Shelf {
  readonly me: MemberId;
  readonly keys: Keys;
  readonly journal: Pages;
  /** All conversations are known. Before, what is stored of one is not written over by nothing. */
  loaded(): boolean;
  /** Something of it is to be shown anew. */
  changed(conversation: Conversation): void;
  /** Its messages are looked at, or are not any more. */
  watched(conversation: Conversation, watched: boolean): void;
  /** Calls after the pause that follows a failure, unless nobody is signed in any more. */
  later(call: () => void): void;
}

/** A message that the server does not have, or that is not in the log here yet. */
export interface Outgoing {
  readonly id: string;
  /** Where it is stored. */
  readonly order: number;
  content: string;
  readonly at: number;
  /** The `seq` of what it answers. */
  replyTo?: number | undefined;
  status: "queued" | "sending" | "failed" | "sent";
  /** Why it failed, or is still not sent. */
  problem?: Problem | undefined;
  /** Sent before, and not answered: the server may have it. */
  attempted: boolean;
  /** Its place, once it is stored. */
  seq?: number;
  view?: MessageView | undefined;
}

interface Row {
  readonly entry: Entry;
  view: MessageView;
}

/** One conversation: what is here of its log (one run without holes), how far everybody has got, and what is still to be sent. */
export class Conversation {
  readonly info: Value<ConversationView>;
  readonly messages: Value<MessagesState>;
  readonly outgoing: Outgoing[] = [];
  /** What has come and does not follow what is here. Not stored before it does. */
  private readonly ahead = new Map<number, Entry>();
  /** The newest part of the run, in memory while somebody looks at it. */
  private rows: Row[] | undefined;
  /** What was appended while the rows are read. */
  private arrivals: Entry[] | undefined;
  private loadingOlder = false;
  private problem: Problem | undefined;
  /** The conversation that this one has turned out to be. */
  private same: Conversation | undefined;
  private readUpTo = 0;
  private typing: readonly MemberId[] = [];

  constructor(
    private readonly shelf: Shelf,
    readonly key: string,
    private record: ConversationRecord,
  ) {
    this.messages = new Value(NOTHING);
    this.info = new Value(this.view());
    this.messages.onWatched = (watched) => {
      if (watched) this.readUpTo = this.readSeq;
      shelf.watched(this, watched);
      if (watched) void this.open();
    };
  }

  /** It, or the one that it has turned out to be. */
  get real(): Conversation {
    return this.same?.real ?? this;
  }

  /** It turns out to be another one, which has what is of it from now on: whoever looks at this one sees that one. */
  become(other: Conversation): void {
    const { shelf } = this;
    this.same = other;
    other.outgoing.push(...this.outgoing.splice(0));
    other.outgoing.sort((a, b) => a.order - b.order);
    if (other.others.length === 0) other.record.members = this.record.members;
    this.info.become(other.info);
    this.messages.become(other.messages);
    other.markRead(this.record.readWanted);
    for (const key of [shelf.keys.conversation(this.key), shelf.keys.reading(this.key)]) shelf.journal.put(key, null);
    this.drop();
    other.save();
  }

  /** As it is stored. */
  get state(): Readonly<ConversationRecord> {
    return this.record;
  }

  /** The watermarks of the member who is signed in. */
  get mine(): Watermarks {
    return this.watermarks(this.shelf.me);
  }

  /** Everything up to here was read. */
  get readSeq(): number {
    return Math.max(this.mine.read, Math.min(this.record.readWanted, this.record.lastSeq));
  }

  get others(): MemberId[] {
    return this.record.members.map(({ member }) => member).filter((member) => member !== this.shelf.me);
  }

  /** Whether it belongs into the list. */
  get begun(): boolean {
    return this.record.lastSeq > 0 || this.outgoing.length > 0;
  }

  get lastAt(): number {
    return Math.max(this.record.lastAt, this.outgoing.at(-1)?.at ?? 0);
  }

  /** What is missing between what is here and the newest entry: everything after a `seq`, or, if that is too much, the newest page. */
  get missing(): { after: number } | "newest" | undefined {
    const { to, lastSeq } = this.record;
    if (to >= lastSeq) return undefined;
    return to === 0 || lastSeq - to > GAP_MAX ? "newest" : { after: to };
  }

  /** Somebody looks at it, and there is less than fills a screen of what is to be had: on the device, or online. Bounded: there may be nothing but entries that are not shown. */
  short(online: boolean): boolean {
    const { rows = [], record } = this;
    const first = rows[0]?.entry.seq ?? 0;
    return this.messages.watched && first > (online ? 1 : record.first) && !this.loadingOlder && rows.length < KEEP_MAX && rows.filter(({ entry }) => entry.kind === "message").length < SCREEN;
  }

  /** What it is, and who is in it, if nothing is known of it yet. */
  begins(kind: ConversationKind, members: readonly MemberId[]): void {
    if (this.record.lastSeq > 0) return;
    this.record.kind = kind;
    this.record.members = members.map((member) => this.watermarks(member));
  }

  /** Merges what the server says of it. `unasked`: it may have been overtaken by pushes. */
  apply(state: ConversationState, unasked: boolean): void {
    const record = this.record;
    record.id = state.id;
    record.kind = state.kind;
    record.members = state.members.map((theirs) => later(unasked ? this.watermarks(theirs.member) : { member: theirs.member, delivered: 0, read: 0 }, theirs));
    this.counted(state.last_seq, state.unread, state.unread_more);
    record.lastSeq = Math.max(state.last_seq, record.to, unasked ? record.lastSeq : 0);
    record.lastAt = Math.max(record.lastAt, timeOf(state.last_at) ?? 0);
    // What was counted by the server does not know what was read here, and what was pushed here may not be counted.
    const said = state.members.find(({ member }) => member === this.shelf.me)?.read ?? 0;
    if (this.readSeq > said || record.to > state.last_seq) this.count(this.readSeq);
    const entries = all(state.entries);
    if (record.to === 0 && entries.length > 0) this.begin(entries);
    else this.insert(entries);
    this.jump();
    this.configured(state.settings, state.settings_revision);
    this.save();
  }

  /** What the member has set, unless what is here is newer. */
  configured(settings: ConversationSettings | undefined, revision: number | undefined): void {
    const { record } = this;
    const place = placeOf(revision);
    if (place <= (record.revision ??= 0)) return;
    record.revision = place;
    record.settings = fits(settings, SETTINGS) ? settings : undefined;
    this.save();
  }

  /** Takes entries in, in any order. */
  insert(entries: readonly Entry[]): void {
    for (const entry of all(entries)) {
      const { to } = this.record;
      this.record.lastSeq = Math.max(this.record.lastSeq, entry.seq);
      if (entry.seq === to + 1) this.append(entry);
      else if (entry.seq > to) this.wait(entry);
      else this.settle(entry);
    }
    this.join();
    this.save();
  }

  /** A page of history: `newest` takes the place of what is here if it does not follow it. */
  page(page: readonly Entry[], newest: boolean): void {
    const entries = all(page);
    const [first] = entries;
    if (first && newest && (this.record.to === 0 || first.seq > this.record.to + 1)) {
      this.record.lastSeq = Math.max(this.record.lastSeq, entries.at(-1)?.seq ?? 0);
      this.begin(entries);
      this.save();
    } else {
      this.insert(entries);
    }
  }

  /** The log ends with what is here. */
  ends(): void {
    this.record.lastSeq = this.record.to;
    this.ahead.clear();
    this.save();
  }

  /** What is here of the log has vanished at the server. */
  forget(): void {
    this.drop();
    this.ahead.clear();
    this.arrivals = undefined;
    Object.assign(this.record, NO_LOG);
    this.shelf.journal.put(this.shelf.keys.reading(this.key), null);
    for (const theirs of this.record.members) Object.assign(theirs, { delivered: 0, read: 0 });
    delete this.record.last;
    // It may be gone altogether: whom it is with is enough to begin it again.
    if (this.record.kind === "direct" && this.others[0]) delete this.record.id;
    if (this.rows || this.messages.watched) this.rows = [];
    this.save();
  }

  /** A watermark moved. It never goes back. */
  receipt(receipt: Receipt): void {
    const readBefore = this.readSeq;
    this.move(receipt.member, receipt);
    if (receipt.member === this.shelf.me && receipt.read > readBefore) this.count(receipt.read);
    this.save();
  }

  /** Everything that is here, or up to a `seq` that may be still to come, was seen. True if that is news. */
  markRead(read = this.record.to): boolean {
    const { record, key, shelf } = this;
    if (read <= Math.max(this.readSeq, record.readWanted)) return false;
    record.readWanted = read;
    shelf.journal.put(shelf.keys.reading(key), JSON.stringify({ conversation: key, read }));
    this.count(this.readSeq);
    this.save();
    return true;
  }

  /** The server has taken a watermark of this device. */
  marked(seq: number, what: "delivered" | "read", reply: Okay): void {
    this.move(this.shelf.me, { delivered: seq, read: what === "read" ? seq : 0 });
    if (what === "read" && this.record.readWanted <= seq) this.shelf.journal.put(this.shelf.keys.reading(this.key), null);
    if (this.record.recount && seq === this.readSeq && reply.last_seq !== undefined && reply.unread !== undefined) {
      const after = this.others_after(reply.last_seq);
      if (after !== undefined) {
        this.counted(reply.last_seq, reply.unread, reply.unread_more, after);
      }
    }
    this.save();
  }

  /** These members are typing. */
  types(members: readonly MemberId[]): void {
    this.typing = members;
    this.shelf.changed(this);
  }

  /** Unread messages. */
  get unread(): number {
    return this.record.unread + this.record.later;
  }

  /** Nobody is signed in any more: nothing is shown. What is not sent waits. */
  close(): void {
    this.rows = undefined;
    this.messages.set(NOTHING);
    this.info.set({ key: this.key, kind: this.record.kind, others: this.others, lastAt: 0, unread: 0, unreadMore: false, typing: [] });
  }

  /** Reads older messages from the storage, or from the server by `fetch`. */
  async loadOlder(fetch: (before: number) => Promise<Entry[]>): Promise<void> {
    const first = this.rows?.[0]?.entry.seq;
    if (first === undefined || first <= 1 || this.loadingOlder) return;
    this.loadingOlder = true;
    this.problem = undefined;
    this.shelf.changed(this);
    try {
      const from = Math.max(this.record.first, first - PAGE);
      const stored = from < first ? await this.read(from, first) : undefined;
      // What is damaged comes again from the server, and takes the place of what is stored.
      this.prepend(stored ?? all(await fetch(first)), first, stored !== undefined);
    } catch (error) {
      this.problem = problemOf(error);
    }
    this.loadingOlder = false;
    this.shelf.changed(this);
  }

  /** One message of the log, from memory or the storage, or from the server by `fetch`; it is not kept. Nothing if there is none that can be shown. */
  async find(seq: number, fetch: (before: number) => Promise<Entry[]>): Promise<MessageView | undefined> {
    const { first, to } = this.record;
    const known = this.rows?.find(({ entry }) => entry.seq === seq)?.entry;
    const entries = known ? [known] : seq >= first && seq <= to ? await this.read(seq, seq + 1).catch(() => undefined) : undefined;
    const entry = (entries ?? all(await fetch(seq + 1))).find((each) => each.seq === seq);
    return entry?.kind === "message" ? this.viewOf(entry) : undefined;
  }

  /** Lets go of what is in memory, and of what is too much on the device. */
  closeRows(): void {
    this.rows = undefined;
    this.problem = undefined;
    this.arrivals = undefined;
    this.trim();
    this.shelf.changed(this);
  }

  /** Removes the oldest of what is too much on the device, unless somebody looks at it, or did just now: they are paged again. */
  trim(): void {
    const { record } = this;
    if (this.rows || this.arrivals || record.to - record.first < KEEP_MAX) return;
    record.first = record.to - KEEP + 1;
    this.drop(record.first);
    this.save();
  }

  /** Shows what has changed. */
  publish(): void {
    if (this.same) return;
    const info = this.view();
    if (!alike(info, this.info.getSnapshot())) this.info.set(info);
    if (!this.rows) {
      const { problem } = this;
      const nothing = problem ? { ...NOTHING, problem } : NOTHING;
      if ((problem || !this.messages.watched) && !alike(nothing, this.messages.getSnapshot())) this.messages.set(nothing);
      return;
    }
    const shown: MessageView[] = [];
    for (const row of this.rows) {
      if (row.entry.kind !== "message") continue;
      if (row.view.own && row.view.status !== this.statusOf(row.entry.seq)) row.view = this.viewOf(row.entry);
      shown.push(row.view);
    }
    for (const outgoing of this.outgoing) shown.push(this.outgoingView(outgoing));
    const before = this.messages.getSnapshot();
    const now: MessagesState = {
      messages: alike(shown, before.messages) ? before.messages : shown,
      ready: this.record.to > 0 || (this.record.lastSeq === 0 && this.shelf.loaded()),
      hasOlder: (this.rows[0]?.entry.seq ?? 1) > 1,
      loadingOlder: this.loadingOlder,
      readUpTo: this.readUpTo,
      ...given({ problem: this.problem }),
    };
    if (!alike(now, before)) this.messages.set(now);
  }

  /** To be stored, and shown anew. */
  save(): void {
    if (this.same) return;
    if (this.record.lastSeq > 0 || this.shelf.loaded()) this.shelf.journal.put(this.shelf.keys.conversation(this.key), JSON.stringify(this.record));
    this.shelf.changed(this);
  }

  /** What is stored of it could be read at last. */
  restore(record: ConversationRecord): this {
    this.record = { ...record, readWanted: Math.max(record.readWanted, this.record.readWanted) };
    this.closeRows();
    this.settleAll();
    if (this.messages.watched) this.messages.onWatched?.(true);
    return this;
  }

  /** Removes what is stored of the log before a `seq`. */
  private drop(end: number = Number.MAX_SAFE_INTEGER): void {
    this.shelf.journal.clear(...this.shelf.keys.log(this.key, 0, end));
  }

  private watermarks(member: MemberId): Watermarks {
    return this.record.members.find((each) => each.member === member) ?? { member, delivered: 0, read: 0 };
  }

  private move(member: MemberId, to: Pick<Watermarks, "delivered" | "read">): void {
    this.record.members = this.record.members.map((each) => (each.member === member ? later(each, to) : each));
  }

  private append(entry: Entry): void {
    const { record, shelf } = this;
    shelf.journal.put(shelf.keys.entry(this.key, entry.seq), JSON.stringify(entry));
    record.to = entry.seq;
    record.lastSeq = Math.max(record.lastSeq, entry.seq);
    if (record.first === 0) record.first = entry.seq;
    this.newest(entry);
    record.lastAt = Math.max(record.lastAt, timeOf(entry.at) ?? 0);
    if (this.isOfOthers(entry) && entry.seq > record.countedTo && entry.seq > this.readSeq) record.later += 1;
    this.rows?.push({ entry, view: this.viewOf(entry) });
    this.arrivals?.push(entry);
    this.settle(entry);
    this.trim();
  }

  /** The newest message is shown in the list, whatever has come after it. */
  private newest(entry: Entry): void {
    if (entry.kind === "message" && entry.seq > (this.record.last?.seq ?? 0)) this.record.last = entry;
  }

  private wait(entry: Entry): void {
    if (this.ahead.size < AHEAD_MAX) this.ahead.set(entry.seq, entry);
  }

  /** What has waited for its predecessor follows it now. */
  private join(): void {
    for (let next = this.ahead.get(this.record.to + 1); next; next = this.ahead.get(this.record.to + 1)) this.append(next);
    for (const seq of this.ahead.keys()) if (seq <= this.record.to) this.ahead.delete(seq);
  }

  /** So much is missing that the newer run takes the place of the older one, if it is here. */
  private jump(): void {
    if (this.missing !== "newest") return;
    const run: Entry[] = [];
    for (let seq = this.record.lastSeq; ; seq -= 1) {
      const entry = this.ahead.get(seq);
      if (!entry) break;
      run.unshift(entry);
    }
    if (run.length > 0) this.begin(run);
  }

  /** These are all that is here of the log. */
  private begin(entries: readonly Entry[]): void {
    const { record } = this;
    if (record.to > 0) this.drop();
    record.first = 0;
    record.to = 0;
    record.later = 0;
    if (this.rows) this.rows = [];
    // What is being read is not there any more.
    if (this.arrivals) {
      this.arrivals = undefined;
      this.rows = [];
    }
    for (const entry of entries) this.append(entry);
    for (const outgoing of [...this.outgoing]) if (outgoing.seq !== undefined && outgoing.seq <= record.to) this.remove(outgoing);
    this.join();
  }

  private prepend(entries: readonly Entry[], before: number, stored: boolean): void {
    if (this.rows?.[0]?.entry.seq !== before) return;
    // Only what follows without a hole.
    const run = entries.filter(({ seq }, index) => seq === before - entries.length + index);
    if (run.length !== entries.length || run.length === 0) return;
    this.rows = [...run.map((entry) => ({ entry, view: this.viewOf(entry) })), ...this.rows];
    this.settleAll();
    if (stored) return;
    for (const entry of run) {
      this.shelf.journal.put(this.shelf.keys.entry(this.key, entry.seq), JSON.stringify(entry));
      this.newest(entry);
    }
    this.record.first = run[0]?.seq ?? this.record.first;
    this.save();
  }

  /** What is in the log, as far as that is in memory, need not be sent any more. */
  settleAll(): void {
    for (const { entry } of this.rows ?? []) this.settle(entry);
    if (this.record.last) this.settle(this.record.last);
  }

  /** A message of one's own is in the log: it need not be sent any more. */
  private settle(entry: Entry): void {
    if (entry.sender !== this.shelf.me) return;
    const outgoing = this.outgoing.find(({ id }) => id === entry.client_id);
    if (outgoing) this.remove(outgoing);
  }

  /** Takes a message out of the outbox. */
  remove(outgoing: Outgoing): void {
    this.outgoing.splice(this.outgoing.indexOf(outgoing), 1);
    this.shelf.journal.put(this.shelf.keys.outgoing(outgoing.order), null);
    this.shelf.changed(this);
  }

  private async open(): Promise<void> {
    if (this.rows || this.arrivals) return this.shelf.changed(this);
    const arrivals: Entry[] = [];
    this.arrivals = arrivals;
    const { first, to } = this.record;
    let entries: Entry[] | undefined = [];
    let problem: Problem | undefined;
    try {
      if (to > 0) entries = await this.read(Math.max(first, to - PAGE + 1), to + 1);
    } catch (error) {
      problem = problemOf(error);
    }
    // Meanwhile it may have begun anew, or been closed.
    if (this.arrivals !== arrivals) return;
    this.arrivals = undefined;
    this.problem = problem;
    if (problem) {
      // Nothing says that it is not there.
      this.shelf.later(() => this.messages.watched && void this.real.open());
      return this.shelf.changed(this);
    }
    // Damaged: it comes again from the server.
    if (!entries) this.record.to = 0;
    this.rows = [...(entries ?? []), ...arrivals].map((entry) => ({ entry, view: this.viewOf(entry) }));
    this.settleAll();
    this.shelf.changed(this);
    if (this.short(true) || this.missing) this.shelf.watched(this, true);
  }

  /** Entries from the storage. Nothing if it does not have all of them; rejects if it cannot be read. */
  private async read(from: number, end: number): Promise<Entry[] | undefined> {
    const stored = await this.shelf.journal.range(...this.shelf.keys.log(this.key, from, end)).catch((cause: unknown) => {
      throw Object.assign(new MembersBookError("storage", "The messages cannot be read on this device."), { cause });
    });
    const entries = stored.map(([, value]) => objectIn<Entry>(value) as Entry).filter(sound);
    return entries.length === end - from ? entries : undefined;
  }

  /** Counts what is unread anew after a `seq`: here if it can be, else the server is asked. */
  private count(read: number): void {
    const { record } = this;
    // What is not here yet cannot be counted.
    const whole = record.to >= record.lastSeq;
    const unread = read >= record.lastSeq ? 0 : whole ? this.others_after(read) : undefined;
    if (unread === undefined) record.recount = true;
    else this.counted(record.to, unread);
  }

  /** So many are unread of what there is up to a `seq`, and so many of what is here after that. */
  private counted(countedTo: number, unread: number, unreadMore = false, later = 0): void {
    Object.assign(this.record, { unread, unreadMore, countedTo, later, recount: false });
  }

  /** How many messages of others there are after a `seq` in what is here, if all of them are in memory. */
  private others_after(seq: number): number | undefined {
    if (seq >= this.record.to) return 0;
    const rows = this.rows;
    const first = rows?.[0]?.entry.seq;
    if (!rows || first === undefined || first > seq + 1) return undefined;
    return rows.filter(({ entry }) => entry.seq > seq && this.isOfOthers(entry)).length;
  }

  private isOfOthers(entry: Entry): boolean {
    return entry.kind === "message" && entry.sender !== this.shelf.me;
  }

  private statusOf(seq: number): SendStatus {
    const others = this.record.members.filter(({ member }) => member !== this.shelf.me);
    if (others.every(({ read }) => read >= seq)) return "read";
    return others.every(({ delivered }) => delivered >= seq) ? "delivered" : "sent";
  }

  private viewOf(entry: Entry): MessageView {
    const own = entry.sender === this.shelf.me;
    const view = { seq: entry.seq, sender: entry.sender, own, content: entry.content, at: Date.parse(entry.at), ...given({ replyTo: entry.reply_to }) };
    return own ? { key: entry.client_id, ...view, status: this.statusOf(entry.seq) } : { key: entry.id, ...view };
  }

  private outgoingView(outgoing: Outgoing): MessageView {
    const { view, content, status, problem, replyTo } = outgoing;
    if (view && view.content === content && view.status === status && view.problem === problem && view.replyTo === replyTo) return view;
    return (outgoing.view = { key: outgoing.id, sender: this.shelf.me, own: true, content, at: outgoing.at, status, ...given({ problem, replyTo }) });
  }

  private view(): ConversationView {
    const { record } = this;
    const outgoing = this.outgoing.at(-1);
    const before = this.info?.getSnapshot().last;
    let last = outgoing ? this.outgoingView(outgoing) : record.last && this.viewOf(record.last);
    if (last && before && alike(last, before)) last = before;
    return {
      key: this.key,
      kind: record.kind,
      others: this.others,
      lastAt: this.lastAt,
      unread: Math.min(this.unread, UNREAD_MAX),
      unreadMore: record.unreadMore || this.unread > UNREAD_MAX,
      typing: this.typing,
      ...given({ id: record.id, last, settings: record.settings }),
    };
  }
}

/** Those that can be taken, as they can be shown. */
function all(entries: readonly Entry[]): Entry[] {
  return entries.flatMap((entry) => mended(entry) ?? []);
}

function later(a: Watermarks, b: Pick<Watermarks, "delivered" | "read">): Watermarks {
  const read = Math.max(a.read, placeOf(b.read));
  return { member: a.member, read, delivered: Math.max(a.delivered, placeOf(b.delivered), read) };
}

function placeOf(value: unknown): number {
  return within(value, 0, Number.MAX_SAFE_INTEGER, 0);
}
