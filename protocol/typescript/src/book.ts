import { Backoff } from "./backoff.js";
import { CONVERSATION, CURSOR, ENTRY, fits, OUTBOX, read, READING, STATE } from "./check.js";
import type { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { Timer } from "./environment.js";
import type { Environment } from "./environment.js";
import { MembersBookError, misuse, nobody } from "./errors.js";
import { valueIn } from "./journal.js";
import type { Pages } from "./journal.js";
import { given } from "./json.js";
import { Outbox } from "./outbox.js";
import type {
  Conversation as ConversationState, ConversationId, ConversationKind, ConversationSettingsPush, Entry, EntryPush, MemberId, Message, Receipt, ServerFrame, Sync, SyncDone,
} from "./protocol.js";
import { pauseAfter, REFUSED_MS, retryAfter } from "./problem.js";
import { NO_LOG } from "./records.js";
import type { Keys } from "./records.js";
import type { ConversationRecord, CursorRecord } from "./records.js";
import { Receipts } from "./receipts.js";
import type { ConversationsState, Target, UnreadState } from "./types.js";
import { alike, Value } from "./value.js";

/** How long a push may overtake the one before it, in milliseconds, before what is missing is asked for. */
const OVERTAKEN_MS = 300;
/** What is refused for good is asked for again after so long, in milliseconds. */
const PAUSE_MS = 60_000;
/** Conversations whose messages stay in memory when nobody looks at them any more. */
const OPEN_MAX = 3;
/** Conversations of a page of the list, and pages at most. */
const LIST_PAGE = 100;
const LIST_PAGES = 50;
/** Conversations that are not known yet, of which settings are kept. */
const EARLY_MAX = 100;

/** All conversations of the member who is signed in: takes what the server sends, and keeps it. */
export class Book {
  readonly list = new Value<ConversationsState>({ ready: false, conversations: [] });
  readonly unread = new Value<UnreadState>({ total: 0, more: false });
  readonly outbox: Outbox;
  private readonly conversations = new Map<string, Conversation>();
  private readonly byId = new Map<ConversationId, Conversation>();
  /** Direct conversations that were asked for by their id before it was known with whom they are: by the key that they would have. */
  private readonly aliases = new Map<string, Conversation>();
  private readonly receipts: Receipts;
  private readonly changed = new Set<Conversation>();
  private readonly closing: Conversation[] = [];
  private cursor: CursorRecord | undefined;
  /** The cursor of this hello was that of a part of a sync. */
  private helloPartial = false;
  /** Something of this connection could not be taken in. */
  private failed = false;
  /** What the sync under way has brought. */
  private brought: ConversationState[] | undefined;
  private filling = false;
  /** Of what is missing in these the server said that it would refuse it again: until when it is not asked. */
  private readonly refused = new Map<Conversation, number>();
  private readonly fillTimer: Timer;
  private readonly fillBackoff: Backoff;
  /** Settings of conversations that are not known here yet: a page of the list that is on its way may have older ones. */
  private readonly early = new Map<ConversationId, ConversationSettingsPush>();
  private discovering = false;
  private publishing = false;
  private listing = false;
  private listingAll = false;
  private loaded = false;
  /** What is stored of the outbox is here. */
  private outboxRead = false;
  private stopped = false;

  constructor(
    private readonly environment: Environment,
    private readonly journal: Pages,
    private readonly keys: Keys,
    private readonly connection: Connection,
  ) {
    this.fillTimer = new Timer(environment.clock);
    this.fillBackoff = new Backoff(environment.random);
    this.outbox = new Outbox(environment, journal, keys, connection, (conversation, message) => this.accepted(conversation, message));
    this.receipts = new Receipts(environment, journal, connection);
  }

  /** Reads what is stored. */
  async load(): Promise<void> {
    const { journal, keys } = this;
    const cursor = await valueIn(journal, keys.cursor);
    const listing = await valueIn(journal, keys.listing);
    const prefix = keys.conversations[0].length;
    let whole = true;
    for (const [key, value] of await journal.range(...keys.conversations)) {
      try {
        const record = read(value, CONVERSATION);
        if (!record) throw new TypeError("no conversation");
        if (!fits(record.last, ENTRY)) delete record.last;
        const name = key.slice(prefix);
        const here = this.conversations.get(name);
        // The server has said it anew, before this could be read.
        if (here?.state.lastSeq) continue;
        const conversation = this.adopt(name, record, here?.restore(record));
        whole &&= record.revision !== undefined && conversation.state.to === record.to;
        // The app may have ended while somebody looked at it.
        conversation.trim();
      } catch {
        // It comes again, if everything does.
        whole = false;
      }
    }
    // Last: without all that came before it, it would stand for too much.
    if (cursor && whole) this.cursor ??= read(cursor, CURSOR);
    this.listing ||= listing !== undefined;
    this.learned();
    this.publish(this.cursor !== undefined);
  }

  /** Takes up the unsent messages that are stored, and what was read, and sends from then on. Rejects if they cannot be read. */
  async loadOutbox(): Promise<void> {
    const prefix = this.keys.outbox[0].length;
    for (const [key, value] of await this.journal.range(...this.keys.outbox)) {
      const record = read(value, OUTBOX);
      if (record) this.outbox.load(this.withKey(record.conversation), Number(key.slice(prefix)), record);
      else this.takeRead(value);
    }
    for (const conversation of this.conversations.values()) {
      conversation.settleAll();
      this.changed.add(conversation);
    }
    this.outboxRead = true;
    this.outbox.open(true);
    this.show();
  }

  /** Takes up what was read, as it is stored. The server may not know. */
  takeRead(value: string): void {
    const record = read(value, READING);
    if (record) this.markRead(this.withKey(record.conversation), record.read);
  }

  /** All conversations are known: they were stored, or the server has said them. */
  private learned(): void {
    if (this.loaded) return;
    this.loaded = true;
    for (const conversation of this.conversations.values()) this.changed.add(conversation);
  }

  /** The cursor to say hello with. */
  hello(): string | undefined {
    this.failed = false;
    this.helloPartial = this.cursor?.partial ?? false;
    this.brought = [];
    return this.cursor?.cursor;
  }

  /** A frame that is of conversations. After one that could not be taken in no cursor is kept on this connection: the next one brings it again. */
  received(frame: ServerFrame): void {
    this.attempt(() => this.take(frame));
  }

  private attempt(work: () => void): void {
    try {
      work();
    } catch {
      this.failed = true;
    }
  }

  private take(frame: ServerFrame): void {
    switch (frame.type) {
      case "sync":
        return this.synced(frame);
      case "sync.done":
        return this.done(frame);
      case "pong":
        return this.keep(frame.cursor, false);
      case "entry":
        return this.pushed(frame);
      case "receipt":
        return this.receipt(frame);
      case "conversation.settings":
        return this.configured(frame);
      default:
    }
  }

  online(online: boolean): void {
    if (!online) {
      this.receipts.offline();
      return;
    }
    this.refused.clear();
    this.outbox.online();
    this.receipts.online(this.conversations.values());
    this.fill(0);
    if (this.listing) void this.listAll();
  }

  conversation(target: Target): Conversation {
    return this.withKey(keyFor(target));
  }

  /** A conversation that the server has. */
  withId(id: ConversationId): Conversation | undefined {
    return this.byId.get(id);
  }

  markRead(conversation: Conversation, upTo?: number): void {
    if (!conversation.markRead(upTo)) return;
    void this.receipts.read(conversation);
    this.show();
  }

  async loadOlder(conversation: Conversation, before: number, limit = 50): Promise<Entry[]> {
    const { id } = conversation.state;
    if (!id) return [];
    const page = await this.connection.request<"history">({ type: "history.get", conversation: id, before, limit });
    return page.entries;
  }

  /** Where messages are written. Throws if nobody is signed in any more: what is written then would be lost. */
  get writing(): Outbox {
    if (this.stopped) throw nobody();
    return this.outbox;
  }

  /** How many messages are not accepted. Not known before what is stored could be read. */
  get unsent(): number | undefined {
    if (!this.outboxRead) return undefined;
    let count = 0;
    for (const { outgoing } of this.conversations.values()) count += outgoing.filter(({ status }) => status !== "sent").length;
    return count;
  }

  /** Nobody is signed in any more: nothing is shown. */
  hide(): void {
    for (const conversation of this.conversations.values()) conversation.close();
  }

  stop(): void {
    this.stopped = true;
    this.outbox.stop();
    this.receipts.stop();
    this.fillTimer.stop();
  }

  private synced(sync: Sync): void {
    const unasked = this.connection.online;
    for (const state of sync.conversations) {
      this.attempt(() => {
        this.apply(state, unasked);
        if (!unasked) this.brought?.push(state);
      });
    }
    this.keep(sync.cursor, !unasked);
    if (unasked) this.fill(0);
  }

  private done(done: SyncDone): void {
    if (done.reset) this.reset();
    this.brought = undefined;
    if (done.reset && this.helloPartial) {
      // Whether what came before the cut is still good cannot be known.
      this.cursor = undefined;
      this.journal.put(this.keys.cursor, null);
      queueMicrotask(() => this.connection.restart());
      return;
    }
    this.keep(done.cursor, false);
    if (done.more) this.listMore(true);
    this.learned();
    this.publish(true);
  }

  /** The server has gone back: what this sync has not brought may have vanished. */
  private reset(): void {
    this.early.clear();
    for (const conversation of this.conversations.values()) {
      conversation.forget();
      this.outbox.detach(conversation);
    }
    this.journal.clear(...this.keys.entries);
    for (const state of this.brought ?? []) this.apply(state, false);
    this.listMore(true);
  }

  /** What another device has read may be to be counted by the server. */
  private receipt(frame: Receipt): void {
    const conversation = this.byId.get(frame.conversation);
    if (!conversation) return;
    conversation.receipt(frame);
    this.receipts.changed(conversation);
  }

  private apply(state: ConversationState, unasked: boolean): void {
    const conversation = this.known(state);
    conversation.apply(state, unasked);
    this.receipts.changed(conversation);
  }

  private pushed({ entry, conversation: info }: EntryPush): void {
    const { conversation: id } = entry;
    const conversation = info?.members ? this.named(info.kind, info.members, id) : this.byId.get(id);
    if (!conversation) {
      void this.discover();
      return;
    }
    conversation.insert([entry]);
    this.receipts.changed(conversation);
    if (conversation.missing) this.fill(OVERTAKEN_MS);
  }

  private configured(push: ConversationSettingsPush): void {
    const conversation = this.byId.get(push.conversation);
    if (conversation) return conversation.configured(push.settings, push.revision);
    if (this.early.size >= EARLY_MAX) this.early.clear();
    this.early.set(push.conversation, push);
  }

  private accepted(conversation: Conversation, message: Message): void {
    const known = this.byId.get(message.conversation)?.begun;
    conversation = this.identify(conversation.real, message.conversation);
    conversation.insert([{ kind: "message", ...message }]);
    this.receipts.changed(conversation);
    // It was begun before, and is not known here.
    if (!known && message.seq > 1) void this.discover();
    else if (conversation.missing) this.fill(OVERTAKEN_MS);
  }

  private known(state: ConversationState): Conversation {
    if (!fits(state, STATE)) throw new TypeError("no conversation");
    return this.named(state.kind, state.members.map(({ member }) => member), state.id);
  }

  private named(kind: ConversationKind, members: readonly MemberId[], id: ConversationId): Conversation {
    const key = keyOf(kind, members, id, this.keys.member);
    const conversation = this.identify(this.find(key) ?? this.byId.get(id) ?? this.withKey(key), id, key);
    conversation.begins(kind, members);
    const early = this.early.get(id);
    if (this.early.delete(id)) conversation.configured(early?.settings, early?.revision);
    return conversation;
  }

  /** The conversation has this id. One that was asked for by the id, before it was known with whom it is, is the same: one of both stays, the other one's key leads to it. */
  private identify(conversation: Conversation, id: ConversationId, key = conversation.key): Conversation {
    // What has another id is another one: an id stays what it is.
    if ((conversation.state.id ?? id) !== id) return this.byId.get(id) ?? this.withKey(`c_${id}`);
    const named = this.byId.get(id) ?? conversation;
    // The one that the list has shown stays.
    const [stays, goes] = named.begun ? [named, conversation] : [conversation, named];
    if (goes !== stays) {
      this.conversations.delete(goes.key);
      goes.become(stays);
      this.outbox.moved(goes, stays);
    }
    for (const alias of [key, goes.key]) if (alias !== stays.key) this.aliases.set(alias, stays);
    (stays.state as ConversationRecord).id = id;
    this.byId.set(id, stays);
    return stays;
  }

  private find(key: string): Conversation | undefined {
    return this.conversations.get(key) ?? this.aliases.get(key) ?? (key.startsWith("c_") ? this.byId.get(key.slice(2)) : undefined);
  }

  /** A conversation by its key: what nobody has asked for begins here. */
  withKey(key: string): Conversation {
    return this.find(key) ?? this.adopt(key, unbegun(key, this.keys.member));
  }

  private adopt(key: string, record: ConversationRecord, here?: Conversation): Conversation {
    const conversation = here ?? new Conversation(
      {
        me: this.keys.member,
        keys: this.keys,
        journal: this.journal,
        loaded: () => this.loaded,
        changed: (each) => this.touch(each),
        watched: (each, watched) => this.watched(each, watched),
        later: (call) => void this.environment.clock.setTimeout(() => this.stopped || call(), REFUSED_MS),
      },
      key,
      record,
    );
    const twin = this.aliases.get(key);
    this.conversations.set(key, conversation);
    const id = record.id ?? twin?.state.id;
    return id ? this.identify(conversation, id, keyOf(record.kind, record.members.map(({ member }) => member), id, this.keys.member)) : conversation;
  }

  /** The cursor that stands for everything up to here. It is stored together with that, or after it. */
  private keep(cursor: string, partial: boolean): void {
    if (this.failed || typeof cursor !== "string") return;
    this.cursor = { cursor, partial };
    this.journal.put(this.keys.cursor, JSON.stringify(this.cursor));
  }

  private watched(conversation: Conversation, watched: boolean): void {
    const place = this.closing.indexOf(conversation);
    if (place >= 0) this.closing.splice(place, 1);
    if (watched) {
      this.refused.delete(conversation);
      this.fill(0);
    } else {
      this.closing.push(conversation);
      if (this.closing.length > OPEN_MAX) this.closing.shift()?.closeRows();
    }
  }

  /** Fetches what is missing: of conversations that somebody looks at first, one page at a time. */
  private fill(ms: number): void {
    if (this.filling || this.stopped) return;
    this.fillTimer.set(ms, () => void this.fillNext());
  }

  private async fillNext(): Promise<void> {
    if (this.filling || this.stopped) return;
    const { connection: { online } } = this;
    const now = this.environment.clock.monotonic();
    const missing = [...this.conversations.values()].filter((each) => each.state.id && ((online && each.missing) || each.short(online)));
    const open = missing.filter((each) => (this.refused.get(each) ?? now) <= now);
    const next = open.find(({ messages }) => messages.watched) ?? open[0];
    if (!next) {
      if (missing[0]) this.fill(PAUSE_MS);
      return;
    }
    this.filling = true;
    let wait = 0;
    try {
      await this.fillOne(next, online);
      this.fillBackoff.reset();
    } catch (error) {
      if (pauseAfter(error) === undefined) this.refused.set(next, now + PAUSE_MS);
      else wait = this.fillBackoff.next(retryAfter(error));
    }
    this.filling = false;
    this.fill(wait);
  }

  private async fillOne(conversation: Conversation, online: boolean): Promise<void> {
    const { missing, state } = conversation;
    if (!state.id) return;
    if (!missing || !online) {
      const { messages } = conversation;
      await conversation.loadOlder((before) => this.loadOlder(conversation, before));
      this.show();
      // Not the same again at once.
      const { problem } = messages.getSnapshot();
      if (problem) throw new MembersBookError(problem.code, problem.message);
      return;
    }
    const asked = state.to;
    const place = missing === "newest" ? { before: state.lastSeq + 1 } : missing;
    const page = await this.connection.request<"history">({ type: "history.get", conversation: state.id, ...place, limit: 100 });
    conversation.page(page.entries, missing === "newest");
    // The log is shorter than was thought: nothing more is to be had.
    if (page.entries.every(({ seq }) => seq <= asked)) conversation.ends();
    this.receipts.changed(conversation);
  }

  /** A message is of a conversation that is not known here: the newest ones are listed. */
  private async discover(): Promise<void> {
    if (this.discovering) return;
    this.discovering = true;
    const { listing } = this;
    // First: the connection, or the app, may end before the answer.
    this.listMore(true);
    await this.insist(async () => {
      const { conversations } = await this.connection.request<"conversations">({ type: "conversations.list", limit: 20 });
      for (const state of conversations) this.apply(state, true);
      if (!listing && !this.listingAll) this.listMore(false);
      this.fill(0);
    });
    this.discovering = false;
  }

  /** Does something until it is done, or would be refused again. When the connection ends it is left to the next one. */
  private async insist(work: () => Promise<void>): Promise<void> {
    while (this.connection.online && !this.stopped) {
      try {
        return await work();
      } catch (error) {
        const wait = pauseAfter(error);
        if (wait === undefined) return;
        await new Promise<void>((resolve) => this.environment.clock.setTimeout(resolve, wait));
      }
    }
  }

  private listMore(listing: boolean): void {
    this.listing = listing;
    this.journal.put(this.keys.listing, listing ? "1" : null);
  }

  /** Lists the conversations that the full state had no room for: those at the top of the list first. */
  private async listAll(): Promise<void> {
    if (this.listingAll) return;
    this.listingAll = true;
    await this.insist(async () => {
      await this.listPage({ pinned: true });
      let after: string | undefined;
      for (let page = 0; page < LIST_PAGES; page += 1) {
        // With those that are pinned: what is pinned between two pages is in one of them.
        after = await this.listPage(given({ after }));
        if (after === undefined) break;
      }
      this.listMore(false);
      this.fill(0);
    });
    this.listingAll = false;
  }

  /** Takes a page of the list. Gives back where the next one begins. */
  private async listPage(which: { pinned?: boolean; after?: string }): Promise<string | undefined> {
    const { conversations, next } = await this.connection.request<"conversations">({ type: "conversations.list", limit: LIST_PAGE, ...which });
    for (const state of conversations) this.apply(state, true);
    return next;
  }

  /** Shows what has changed now, and not a moment later. */
  show(): void {
    this.publish(this.list.getSnapshot().ready);
  }

  private touch(conversation: Conversation): void {
    this.changed.add(conversation);
    if (this.publishing) return;
    this.publishing = true;
    queueMicrotask(() => {
      this.publishing = false;
      this.show();
    });
  }

  /** Shows what has changed since the last time, all of it at once. */
  private publish(ready: boolean): void {
    if (this.stopped) return;
    for (const conversation of this.changed) conversation.publish();
    this.changed.clear();
    const begun = [...this.conversations.values()].filter((conversation) => conversation.begun);
    begun.sort((a, b) => b.lastAt - a.lastAt || (a.key < b.key ? -1 : 1));
    const views = begun.map(({ info }) => info.getSnapshot());
    const before = this.list.getSnapshot();
    if (ready !== before.ready || !alike(views, before.conversations)) this.list.set({ ready, conversations: views });
    const total = views.reduce((sum, { unread }) => sum + unread, 0);
    const more = views.some(({ unreadMore }) => unreadMore);
    const unread = { total, more };
    if (!alike(unread, this.unread.getSnapshot())) this.unread.set(unread);
  }
}

/** The key of a target. */
export function keyFor(target: Target): string {
  const { member, conversation } = (target ?? {}) as { member?: unknown; conversation?: unknown };
  const id = member ?? conversation;
  if (typeof id !== "string" || id === "") throw misuse("A conversation is asked for by { member: id } or { conversation: id }.");
  return (member === undefined ? "c_" : "m_") + id;
}

/** The key of a conversation: that of two members has the other's id, so that it is the same before the first message. */
function keyOf(kind: string, members: readonly string[], id: ConversationId, me: string): string {
  const other = members.find((member) => member !== me);
  return kind === "direct" && other !== undefined ? `m_${other}` : `c_${id}`;
}

function unbegun(key: string, me: string): ConversationRecord {
  const direct = key.startsWith("m_");
  const rest = key.slice(2);
  const members = (direct ? [me, rest] : [me]).map((member) => ({ member, delivered: 0, read: 0 }));
  return {
    ...NO_LOG, ...given({ id: direct ? undefined : rest }), kind: "direct", members, lastAt: 0,
  };
}
