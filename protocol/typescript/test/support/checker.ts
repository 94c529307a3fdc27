import type { ClientFrame, ConversationId, Entry, MemberId, ServerFrame } from "../../src/protocol.js";
import type { ConversationHandle, ConversationView, MembersBook, MessagesState, MessageView, SendStatus } from "../../src/types.js";
import type { Device } from "./device.js";

/** A message that somebody asked to send. */
export interface Sent {
  readonly device: string;
  readonly to: MemberId;
  readonly content: string;
  /** `asked`: no answer, and none will come if the app was killed. `kept`: `send` resolved, and it is stored. `shown`: it resolved while nothing can be stored. `refused`: it rejected. */
  state: "asked" | "kept" | "shown" | "refused";
  key?: string;
  /** Given up by the member. */
  dropped?: boolean;
}

const RANK: Readonly<Record<SendStatus, number>> = { queued: 0, sending: 0, failed: 0, sent: 1, delivered: 2, read: 3 };

/** What one device shows of one conversation, in one life of the app. */
interface Shown {
  readonly handle: ConversationHandle;
  state: MessagesState;
  /** It has been there, with everything that is stored. */
  wasReady: boolean;
}

/** A message as a frame has brought it. */
interface Brought {
  readonly content: string;
  /** It came as a part of a page of older ones, and in no other way: until that is stored the device begins after it, and gets it again. */
  readonly isOlder: boolean;
}

/** Looks at everything that one device shows, as it is shown, over all lives of its app. What must never be seen is written down. */
export class Observer {
  readonly sent: Sent[] = [];
  readonly violations: string[] = [];
  /** How many snapshots were looked at. */
  looked = 0;
  private shown = new Map<string, Shown>();
  private releases: (() => void)[] = [];
  /** Of each message of all lives: its place never changes. */
  private readonly seqs = new Map<string, number>();
  private views = new Map<string, ConversationView>();
  /** What frames have brought in this life, by conversation and place. */
  private readonly brought = new Map<ConversationId, Map<number, Brought>>();
  /** The requests for pages of what is older than what has been brought, by their ids. */
  private readonly paging = new Set<string | undefined>();
  /** What the server is known to have, from frames of all lives. */
  private readonly stored = new Set<string>();
  private readonly acknowledged = new Map<ConversationId, number>();

  constructor(
    readonly device: Device,
    private me: MemberId,
  ) {
    device.onLaunch = (client) => this.observe(client);
    device.onReceived = (frame) => this.received(frame);
    device.onSent = (frame) => {
      this.asking(frame);
      this.acknowledging(frame);
    };
  }

  /** Sends, and remembers what became of it. */
  async send(handle: ConversationHandle, to: MemberId, content: string): Promise<void> {
    const sent: Sent = { device: this.device.name, to, content, state: "asked" };
    this.sent.push(sent);
    try {
      sent.key = await handle.send(content);
      sent.state = "kept";
      if (!this.device.disk.holds(content) && !this.seqs.has(sent.key) && this.device.isRunning) {
        sent.state = "shown";
        // It says so. Otherwise whoever has sent it believes that it survives.
        if (!this.device.client.connection.getSnapshot().storageFailing) this.wrong(handle.key, `send resolved for ${content}, and it is not stored`);
      }
      // "It is in `messages` at once".
      const state = this.shown.get(handle.key)?.state;
      if (this.device.isRunning && state?.ready && !state.messages.some(({ key }) => key === sent.key)) this.wrong(handle.key, `${content} was kept and is not shown`);
    } catch {
      sent.state = "refused";
    }
  }

  /** What is shown of the conversation with a member. */
  messages(key: string): MessagesState | undefined {
    return this.shown.get(key)?.state;
  }

  /** Everything of this life is looked at from now on. */
  private observe(client: MembersBook): void {
    for (const release of this.releases) release();
    this.releases = [];
    this.brought.clear();
    this.paging.clear();
    this.shown = new Map();
    this.views = new Map();
    const look = (): void => this.list(client);
    this.releases.push(client.conversations.subscribe(look));
    // With the session what it has brought is gone: the next one begins anew.
    this.releases.push(client.session.subscribe(() => client.session.getSnapshot().status === "signed_out" && this.brought.clear()));
    this.releases.push(
      client.unread.subscribe(() => {
        const { total } = client.unread.getSnapshot();
        if (!Number.isInteger(total) || total < 0) this.wrong("unread", `the total is ${total}`);
      }),
    );
    this.releases.push(
      client.session.subscribe(() => {
        // What was brought, and found no room, goes with the session: the next one begins with what the server brings then.
        if (client.session.getSnapshot().status === "signed_out") this.brought.clear();
      }),
    );
    look();
  }

  /** Looks at a conversation from now on, as if it were on the screen. */
  open(handle: ConversationHandle): void {
    // After another login it is another one.
    if (this.shown.get(handle.key)?.handle === handle) return;
    this.shown.set(handle.key, { handle, state: handle.messages.getSnapshot(), wasReady: false });
    this.releases.push(handle.messages.subscribe(() => this.look(handle)));
    this.look(handle);
  }

  private list(client: MembersBook): void {
    const { conversations } = client.conversations.getSnapshot();
    if (client.conversations.getSnapshot() !== client.conversations.getSnapshot()) this.wrong("list", "getSnapshot gives another object each time");
    this.looked += 1;
    const keys = new Set<string>();
    const others = new Set<string>();
    let before = Number.POSITIVE_INFINITY;
    const { views } = this;
    // Nothing of a list that is gone, after a sign-out, is compared with the next one.
    this.views = new Map(conversations.map((view) => [view.key, view]));
    for (const view of conversations) {
      if (keys.has(view.key)) this.wrong(view.key, "is in the list twice");
      keys.add(view.key);
      const who = view.others.join();
      if (others.has(who)) this.wrong(view.key, `the conversation with ${who} is in the list twice`);
      others.add(who);
      if (!Number.isInteger(view.unread) || view.unread < 0) this.wrong(view.key, `unread is ${view.unread}`);
      if (view.lastAt > before) this.wrong(view.key, "the list is not in the order of the newest message");
      before = view.lastAt;
      const earlier = views.get(view.key);
      if (earlier && earlier !== view && JSON.stringify(earlier) === JSON.stringify(view)) this.wrong(view.key, "another object in the list, and nothing of it has changed");
      this.open(client.conversation(client.target(view.key)));
    }
  }

  private look(handle: ConversationHandle): void {
    const shown = this.shown.get(handle.key);
    const state = handle.messages.getSnapshot();
    if (shown?.handle !== handle) return;
    if (handle.messages.getSnapshot() !== state) this.wrong(handle.key, "getSnapshot gives another object each time");
    this.looked += 1;
    const now = this.one(handle.key, state);
    if (shown.wasReady && state.ready) this.change(handle.key, shown.state, state, now);
    if (!shown.wasReady && state.ready) this.survivors(handle.key, now);
    shown.wasReady ||= state.ready;
    // After a sign-out nothing is shown.
    const isSignedOut = this.device.isRunning && this.device.client.session.getSnapshot().status !== "signed_in";
    if (shown.wasReady && !state.ready && !isSignedOut) this.wrong(handle.key, "was ready, and is not any more");
    shown.state = state;
  }

  /** What has to be true of each snapshot. */
  private one(key: string, { messages }: MessagesState): Map<string, MessageView> {
    const byKey = new Map<string, MessageView>();
    let before: MessageView | undefined;
    for (const message of messages) {
      if (byKey.has(message.key)) this.wrong(key, `${message.key} is there twice: ${outline(messages)}`);
      byKey.set(message.key, message);
      if (message.seq === undefined) {
        if (!message.own) this.wrong(key, `a message of somebody else without a place: ${message.key}`);
      } else {
        if (before && before.seq === undefined) this.wrong(key, `a stored message after one that is not: ${outline(messages)}`);
        else if (before?.seq !== undefined && message.seq <= before.seq) this.wrong(key, `${message.seq} comes after ${before.seq}: ${outline(messages)}`);
        else if (before?.seq !== undefined && message.seq !== before.seq + 1) this.wrong(key, `a hole between ${before.seq} and ${message.seq}: ${outline(messages)}`);
        const known = this.seqs.get(message.key);
        if (known !== undefined && known !== message.seq) this.wrong(key, `${message.key} was at ${known} and is at ${message.seq}`);
        this.seqs.set(message.key, message.seq);
      }
      if (message.own !== (message.sender === this.me)) this.wrong(key, `own is ${message.own}, sender ${message.sender}`);
      if (message.own !== (message.status !== undefined)) this.wrong(key, `own is ${message.own}, status ${message.status}`);
      // One that is stored may be without its place for a while: as long as what is before it is not here.
      const { status } = message;
      if (status && (message.seq === undefined ? RANK[status] > 1 : RANK[status] < 1)) this.wrong(key, `${message.key} at ${message.seq} is ${message.status}`);
      before = message;
    }
    this.ownOrder(key, messages);
    return byKey;
  }

  /** Messages of this device that are not stored are shown in the order in which they were asked for. */
  private ownOrder(key: string, messages: readonly MessageView[]): void {
    let before = -1;
    for (const message of messages) {
      if (message.seq !== undefined) continue;
      const index = this.sent.findIndex(({ content }) => content === message.content);
      if (index >= 0 && index < before) this.wrong(key, `${message.content} is shown after ${this.sent[before]?.content}`);
      before = Math.max(before, index);
    }
  }

  /** What has to be true from one snapshot to the next. */
  private change(key: string, earlier: MessagesState, state: MessagesState, now: ReadonlyMap<string, MessageView>): void {
    const first = state.messages[0]?.seq ?? Number.POSITIVE_INFINITY;
    const last = earlier.messages.findLast(({ seq }) => seq !== undefined)?.seq ?? 0;
    // After a long absence the window may begin anew, with the newest page.
    const isAnew = first > last + 1 && state.hasOlder;
    for (const was of earlier.messages) {
      const is = now.get(was.key);
      if (!is) {
        if (isAnew && was.seq !== undefined) continue;
        // It turned out to be stored, before what is in the window.
        if (was.seq === undefined && state.hasOlder && this.placeOf(was.content) < first) continue;
        const sent = this.sent.find(({ content }) => content === was.content);
        if (!sent?.dropped && sent?.state !== "refused") this.wrong(key, `${was.key} (${was.content}, at ${was.seq}, ${was.status}) has vanished: ${outline(state.messages)}`);
        continue;
      }
      if (is === was) continue;
      if (JSON.stringify(is) === JSON.stringify(was)) this.wrong(key, `${was.key}: another object, and nothing of it has changed`);
      if (was.status && is.status && (RANK[was.status] > RANK[is.status])) this.wrong(key, `${was.key} was ${was.status} and is ${is.status}`);
      if (was.seq !== undefined && is.content !== was.content) this.wrong(key, `${was.key} has another content`);
    }
  }

  /** A new life of the app: what was kept, and is not known to be stored, is there. */
  private survivors(key: string, now: ReadonlyMap<string, MessageView>): void {
    const other = this.views.get(key)?.others[0];
    for (const sent of this.sent) {
      if (sent.to !== other || sent.state !== "kept" || sent.dropped || sent.key === undefined || this.stored.has(sent.content)) continue;
      if (!now.has(sent.key)) this.wrong(key, `${sent.content} was kept, and is not there after a restart: ${outline([...now.values()])}`);
    }
  }

  private received(frame: ServerFrame & { id?: string }): void {
    if (frame.type === "entry") this.bring(frame.entry);
    else if (frame.type === "message.accepted") this.bring(frame.message);
    else if (frame.type === "history") this.page(frame.entries, this.paging.delete(frame.id));
    else if (frame.type === "sync") for (const { entries } of frame.conversations) for (const entry of entries) this.bring(entry);
  }

  private page(entries: readonly Entry[], isOlder: boolean): void {
    for (const entry of entries) this.bring(entry, isOlder);
  }

  private bring({ conversation, seq, content }: Pick<Entry, "conversation" | "seq" | "content">, isOlder = false): void {
    let entries = this.brought.get(conversation);
    if (!entries) this.brought.set(conversation, (entries = new Map()));
    entries.set(seq, { content, isOlder: isOlder && entries.get(seq)?.isOlder !== false });
    this.stored.add(content);
  }

  /** A page before something that is here is one of older ones; one before what is not here yet brings what is missing. */
  private asking(frame: ClientFrame & { id?: string }): void {
    if (frame.type !== "history.get" || frame.before === undefined) return;
    const newest = Math.max(0, ...(this.brought.get(frame.conversation)?.keys() ?? []));
    if (frame.before <= newest) this.paging.add(frame.id);
  }

  /** Where a message is, as far as frames of this life have said. */
  private placeOf(content: string): number {
    for (const entries of this.brought.values()) for (const [seq, each] of entries) if (each.content === content) return seq;
    return Number.POSITIVE_INFINITY;
  }

  /** What is acknowledged is on the disk at that moment, or was there: everything from where the device begins. */
  private acknowledging(frame: ClientFrame): void {
    if (frame.type !== "message.delivered") return;
    const from = this.acknowledged.get(frame.conversation) ?? 0;
    for (const [seq, { content, isOlder }] of this.brought.get(frame.conversation) ?? []) {
      if (isOlder || seq <= from || seq > frame.seq || !content.startsWith("w-")) continue;
      if (!this.device.disk.held(content)) this.wrong(frame.conversation, `delivered up to ${frame.seq} was said, and ${seq} (${content}) was never stored`);
    }
    this.acknowledged.set(frame.conversation, Math.max(from, frame.seq));
  }

  private wrong(where: string, what: string): void {
    if (this.violations.length < 50) this.violations.push(`${new Date().toISOString().slice(11, 23)} ${this.device.name}, ${where}: ${what}`);
    this.device.note(`WRONG ${where}: ${what.slice(0, 300)}`);
  }
}

/** A window in a line. */
export function outline(messages: readonly MessageView[]): string {
  return messages
    .slice(-12)
    .map(({ seq, status, content }) => `${seq ?? "-"}:${content.slice(0, 14)}${status ? `(${status})` : ""}`)
    .join(" ");
}
