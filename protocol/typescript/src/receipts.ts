import type { Connection } from "./connection.js";
import type { Conversation } from "./conversation.js";
import type { Environment } from "./environment.js";
import type { Pages } from "./journal.js";
import { pauseAfter } from "./problem.js";

/** `message.delivered` of one conversation, at most once in so many milliseconds. */
const DELIVERED_MS = 1_000;

/** Says what has reached this device, once it is stored, and what was read. */
export class Receipts {
  private readonly timers = new Map<Conversation, unknown>();
  /** What was said on this connection, and may not be answered yet. */
  private readonly delivered = new Map<Conversation, number>();
  /** Those of which it is being said on this connection. */
  private reading = new Set<Conversation>();
  /** Those for whom it is waited until all is stored. */
  private readonly storing = new Set<Conversation>();
  private stopped = false;

  constructor(
    private readonly environment: Environment,
    private readonly journal: Pages,
    private readonly connection: Connection,
  ) {}

  online(conversations: Iterable<Conversation>): void {
    for (const conversation of conversations) this.changed(conversation);
  }

  offline(): void {
    for (const timer of this.timers.values()) this.environment.clock.clearTimeout(timer);
    this.timers.clear();
    this.delivered.clear();
    this.reading = new Set();
  }

  stop(): void {
    this.stopped = true;
    this.offline();
  }

  /** Something has come, or was counted: says what the server does not know. */
  changed(conversation: Conversation): void {
    if (this.stopped || !this.connection.online) return;
    const { state, readSeq, mine } = conversation;
    if (state.recount || readSeq > mine.read) void this.read(conversation);
    if (state.to <= this.known(conversation) || this.timers.has(conversation)) return;
    const timer = this.environment.clock.setTimeout(() => {
      this.timers.delete(conversation);
      this.changed(conversation);
    }, DELIVERED_MS);
    this.timers.set(conversation, timer);
    void this.deliver(conversation);
  }

  /** The member has read what is here. It is said once it is stored; where it cannot be, all the same: they have seen it, and what is not stored comes again by the cursor. */
  async read(conversation: Conversation): Promise<void> {
    const { id } = conversation.state;
    if (!id || this.reading.has(conversation) || this.stopped || !this.connection.online) return;
    const { reading } = this;
    reading.add(conversation);
    await this.journal.attempted();
    // The connection may be another one.
    if (reading !== this.reading || this.stopped || !this.connection.online) return;
    const seq = conversation.readSeq;
    let wait: number | undefined = 0;
    try {
      const reply = await this.connection.request<"ok">({ type: "message.read", conversation: id, seq });
      if (!this.stopped) conversation.marked(seq, "read", reply);
    } catch (error) {
      wait = pauseAfter(error);
    }
    reading.delete(conversation);
    if (this.stopped || wait === undefined) return;
    if (conversation.readSeq > conversation.mine.read || conversation.state.recount) {
      this.environment.clock.setTimeout(() => this.changed(conversation), wait);
    }
  }

  private known(conversation: Conversation): number {
    return Math.max(conversation.mine.delivered, this.delivered.get(conversation) ?? 0);
  }

  private async deliver(conversation: Conversation): Promise<void> {
    const { id, to } = conversation.state;
    if (!id || this.storing.has(conversation)) return;
    this.storing.add(conversation);
    await this.journal.stored();
    this.storing.delete(conversation);
    if (this.stopped || !this.connection.online || to <= this.known(conversation) || to > conversation.state.to) return;
    this.delivered.set(conversation, to);
    try {
      const reply = await this.connection.request<"ok">({ type: "message.delivered", conversation: id, seq: to });
      if (!this.stopped) conversation.marked(to, "delivered", reply);
    } catch (error) {
      const wait = pauseAfter(error);
      // What is refused for good is not said again on this connection.
      if (wait === undefined) return;
      if (this.delivered.get(conversation) === to) this.delivered.delete(conversation);
      this.environment.clock.setTimeout(() => this.changed(conversation), wait);
    }
  }
}
