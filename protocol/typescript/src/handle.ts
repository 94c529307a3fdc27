import type { Book } from "./book.js";
import type { Conversation } from "./conversation.js";
import type { Clock, Observable } from "./environment.js";
import type { Journal } from "./journal.js";
import { problemOf } from "./problem.js";
import type { ConversationHandle, ConversationView, MessagesState } from "./types.js";

/** Typing is said again after so long, and has stopped when nothing was typed for so long; in milliseconds. */
const TYPING_AGAIN_MS = 3_000;
const TYPING_OVER_MS = 5_000;

/** What an app does with a conversation. */
export class Handle implements ConversationHandle {
  readonly key: string;
  readonly info: Observable<ConversationView>;
  readonly messages: Observable<MessagesState>;
  private typingSaid: number | undefined;
  private typingTimer: unknown;

  constructor(
    private readonly origin: Conversation,
    private readonly book: Book,
    private readonly journal: Journal,
    private readonly clock: Clock,
    private readonly sayTyping: (conversation: Conversation, active: boolean) => void,
  ) {
    this.key = origin.key;
    this.info = origin.info;
    this.messages = origin.messages;
  }

  /** It may turn out to be another one. */
  private get conversation(): Conversation {
    return this.origin.real;
  }

  async send(content: string): Promise<string> {
    const id = this.book.outbox.add(this.conversation, content);
    // The message itself ends it, for those who get it.
    this.typingSaid = undefined;
    this.clock.clearTimeout(this.typingTimer);
    this.book.show();
    await this.journal.attempted();
    return id;
  }

  async retry(messageKey: string): Promise<void> {
    this.book.outbox.retry(this.conversation, messageKey);
    await this.journal.attempted();
  }

  async edit(messageKey: string, content: string): Promise<void> {
    this.book.outbox.edit(this.conversation, messageKey, content);
    await this.journal.attempted();
  }

  async drop(messageKey: string): Promise<void> {
    this.book.outbox.drop(this.conversation, messageKey);
    await this.journal.attempted();
  }

  markRead(): void {
    this.book.markRead(this.conversation);
  }

  loadOlder(): Promise<void> {
    return this.conversation.loadOlder((before) => this.book.loadOlder(this.conversation, before), problemOf);
  }

  typing(active: boolean): void {
    this.clock.clearTimeout(this.typingTimer);
    if (active) {
      const now = this.clock.monotonic();
      if (this.typingSaid === undefined || now - this.typingSaid >= TYPING_AGAIN_MS) {
        this.typingSaid = now;
        this.sayTyping(this.conversation, true);
      }
      this.typingTimer = this.clock.setTimeout(() => this.typing(false), TYPING_OVER_MS);
    } else if (this.typingSaid !== undefined) {
      this.typingSaid = undefined;
      this.sayTyping(this.conversation, false);
    }
  }

  /** The member has signed out. */
  stop(): void {
    this.clock.clearTimeout(this.typingTimer);
  }
}
