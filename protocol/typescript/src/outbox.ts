import { Backoff } from "./backoff.js";
import { isPlace } from "./check.js";
import type { Connection } from "./connection.js";
import type { Conversation, Outgoing } from "./conversation.js";
import { Timer } from "./environment.js";
import type { Environment } from "./environment.js";
import { MembersBookError, misuse, refusal } from "./errors.js";
import type { Pages } from "./journal.js";
import { given } from "./json.js";
import { CONTENT_MAX_CHARS } from "./protocol.js";
import type { Message } from "./protocol.js";
import type { Keys, OutboxRecord } from "./records.js";
import { problemOf, retryAfter } from "./problem.js";

/** Conversations into which messages are on their way at once. The server waits for 16 refused ones at most. */
const LANES_MAX = 8;
/** What is written while the stored messages cannot be read has its place behind any that the clock gave: it may have gone back since. */
const BEHIND = 4e15;

interface Lane {
  conversation: Conversation;
  busy: boolean;
  readonly timer: Timer;
  readonly backoff: Backoff;
}

/**
 * Messages that the server does not have. Those of a conversation go one after the other, so their order is kept whatever happens; those of others do not wait for them. A
 * message leaves when it is in the log: until then it is stored, and sent again with the same id, which the server stores once.
 */
export class Outbox {
  private readonly lanes = new Map<string, Lane>();
  private order = 0;
  private busy = 0;
  /** What is stored has been read. */
  private read = false;
  /** It has, or is not waited for. */
  private opened = false;
  private stopped = false;

  constructor(
    private readonly environment: Environment,
    private readonly journal: Pages,
    private readonly keys: Keys,
    private readonly connection: Connection,
    /** Told when the server has stored a message. */
    private readonly accepted: (conversation: Conversation, message: Message) => void,
  ) {}

  /** Takes up what was stored. Whether the server has it is not known. */
  load(conversation: Conversation, order: number, { id, content, at, replyTo, problem }: OutboxRecord, attempted = true): void {
    if (conversation.outgoing.some((each) => each.id === id)) return;
    this.order = Math.max(this.order, order);
    this.lane(conversation);
    // Without what it answers it is still what was written.
    conversation.outgoing.push({ id, order, content, at, replyTo: isPlace(replyTo) ? replyTo : undefined, status: problem ? "failed" : "queued", problem, attempted });
    conversation.outgoing.sort((a, b) => a.order - b.order);
  }

  /** Adds a message, and returns its id. Throws if it can never be sent. */
  add(conversation: Conversation, content: string, replyTo?: number): string {
    const text = checked(content);
    if (replyTo !== undefined && !isPlace(replyTo)) throw misuse("What is answered is named by its `seq`.");
    if (!conversation.state.id && !conversation.others[0]) throw refusal("message_to_self");
    const id = this.environment.uuid().toLowerCase();
    const order = this.next();
    this.load(conversation, order, { id, conversation: conversation.key, content: text, at: this.environment.clock.now(), ...given({ replyTo }) }, false);
    this.store(conversation, find(conversation, id));
    this.pump();
    return id;
  }

  /** Takes over a message that was written elsewhere, and may have been sent from there. */
  take(conversation: Conversation, record: OutboxRecord): void {
    if (conversation.outgoing.some(({ id }) => id === record.id)) return;
    this.load(conversation, this.next(), record);
    this.store(conversation, find(conversation, record.id));
    this.pump();
  }

  /** The place of a new message: behind all others, those that cannot be read at the moment included. */
  private next(): number {
    return Math.max(this.order + 1, this.environment.clock.now() * 1_000 + (this.read ? 0 : BEHIND));
  }

  retry(conversation: Conversation, id: string): void {
    const outgoing = find(conversation, id);
    if (outgoing.status !== "failed") return;
    this.again(conversation, outgoing);
  }

  /** Changes the text. What is on its way, or may have arrived, cannot be changed any more. */
  edit(conversation: Conversation, id: string, content: string): void {
    const outgoing = find(conversation, id);
    if (outgoing.status !== "failed" && (outgoing.status !== "queued" || outgoing.attempted)) {
      throw new MembersBookError("validation_failed", "This message may have arrived already.");
    }
    outgoing.content = checked(content);
    this.again(conversation, outgoing);
  }

  drop(conversation: Conversation, id: string): void {
    const outgoing = find(conversation, id);
    if (outgoing.status === "failed" || (outgoing.status === "queued" && !outgoing.attempted)) {
      conversation.remove(outgoing);
      this.pump();
    }
  }

  /** From now on messages are sent. Before, new ones would overtake what is stored; if that was not `read` they do. */
  open(read: boolean): void {
    this.read ||= read;
    this.opened = true;
    this.pump();
  }

  /** Sends what can be sent. */
  pump(): void {
    if (!this.opened) return;
    for (const lane of this.lanes.values()) {
      if (this.stopped || !this.connection.online || this.busy >= LANES_MAX) return;
      const next = lane.conversation.outgoing.find(({ status }) => status !== "sent");
      if (!next) this.forget(lane);
      else if (!lane.busy && !lane.timer.isSet && next.status === "queued") void this.send(lane, next);
    }
  }

  /** A conversation has turned out to be another one. What is on its way of it holds the others back, as before. */
  moved(from: Conversation, to: Conversation): void {
    const lane = this.lanes.get(from.key);
    this.lanes.delete(from.key);
    if (!lane) return;
    lane.conversation = to;
    if (lane.busy || !this.lanes.has(to.key)) this.lanes.set(to.key, lane);
  }

  /** The connection is new: nothing is waited for. */
  online(): void {
    for (const { timer } of this.lanes.values()) timer.stop();
    this.pump();
  }

  /** Nothing is sent any more. */
  stop(): void {
    this.stopped = true;
    for (const { timer } of this.lanes.values()) timer.stop();
    this.lanes.clear();
  }

  private async send(lane: Lane, outgoing: Outgoing): Promise<void> {
    const { conversation } = lane;
    lane.busy = true;
    this.busy += 1;
    // Why it was not taken the last time stays until it is known how it goes this time.
    outgoing.status = "sending";
    outgoing.attempted = true;
    conversation.save();
    try {
      const { id } = conversation.state;
      const where = id ? { conversation: id } : { to: conversation.others[0] ?? this.keys.member };
      const { message } = await this.connection.request<"message.accepted">({ type: "message.send", ...where, client_id: outgoing.id, content: outgoing.content, ...given({ reply_to: outgoing.replyTo }) });
      if (this.stopped) return;
      outgoing.status = "sent";
      outgoing.problem = undefined;
      outgoing.seq = message.seq;
      lane.backoff.reset();
      this.accepted(conversation, message);
    } catch (error) {
      this.refused(lane, outgoing, error);
    }
    lane.busy = false;
    this.busy -= 1;
    this.pump();
  }

  private refused(lane: Lane, outgoing: Outgoing, error: unknown): void {
    // What is kept of it is sent when the member is here again.
    if (this.stopped) return;
    const { conversation } = lane;
    const problem = problemOf(error);
    // Without a connection that is what it waits for.
    outgoing.problem = this.connection.online || problem.verdict === "fix" ? problem : undefined;
    if (problem.verdict === "fix") {
      outgoing.status = "failed";
      // The server has not stored it: it may be changed, or given up.
      outgoing.attempted = false;
      this.store(conversation, outgoing);
    } else {
      outgoing.status = "queued";
      // The problem is shown, not stored: it is tried again all the same.
      conversation.save();
      // Without a connection the next one goes on.
      if (this.connection.online) {
        lane.timer.set(lane.backoff.next(retryAfter(error)), () => this.pump());
      }
    }
  }

  /** It is sent as if it were new. */
  private again(conversation: Conversation, outgoing: Outgoing): void {
    // What it answers is not there.
    if (outgoing.problem?.code === "message_not_found") outgoing.replyTo = undefined;
    outgoing.status = "queued";
    outgoing.problem = undefined;
    this.store(conversation, outgoing);
    this.pump();
  }

  /** The log has vanished at the server: what stands at the place of what they answer may be something else. */
  detach(conversation: Conversation): void {
    for (const outgoing of conversation.outgoing) {
      if (outgoing.replyTo === undefined) continue;
      outgoing.replyTo = undefined;
      this.store(conversation, outgoing);
    }
  }

  private store(conversation: Conversation, outgoing: Outgoing): void {
    const { id, content, at, status, problem, replyTo } = outgoing;
    const record: OutboxRecord = { id, conversation: conversation.key, content, at, ...given({ replyTo, problem: status === "failed" ? problem : undefined }) };
    this.journal.put(this.keys.outgoing(outgoing.order), JSON.stringify(record));
    conversation.save();
  }

  private lane(conversation: Conversation): void {
    if (this.lanes.has(conversation.key)) return;
    this.lanes.set(conversation.key, { conversation, busy: false, timer: new Timer(this.environment.clock), backoff: new Backoff(this.environment.random) });
  }

  private forget(lane: Lane): void {
    if (lane.busy || lane.conversation.outgoing.length > 0) return;
    lane.timer.stop();
    this.lanes.delete(lane.conversation.key);
  }
}

function find(conversation: Conversation, id: string): Outgoing {
  const outgoing = conversation.outgoing.find((each) => each.id === id);
  if (outgoing) return outgoing;
  const known = conversation.messages.getSnapshot().messages.some(({ key }) => key === id);
  throw new MembersBookError("message_not_found", known ? "The server has this message already." : "No message with this key waits here.");
}

/** The text as the server keeps it. */
function checked(content: string): string {
  if (typeof content !== "string") throw misuse("A message is a text.");
  const text = content.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");
  if (text === "") throw refusal("content_empty");
  if ([...text].length > CONTENT_MAX_CHARS) throw refusal("content_too_long");
  // Half of an emoji: it would arrive as something else.
  if (/\p{Cs}/u.test(text)) throw misuse("The message has a character that is broken.");
  return text;
}
