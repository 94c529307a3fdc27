import type { ConfiguredConversation } from "./protocol.js";
import type { Book } from "./book.js";
import type { Conversation } from "./conversation.js";
import type { Observable } from "./environment.js";
import type { Pages } from "./journal.js";
import type { ConversationHandle, ConversationView, MessagesState, MessageView, SendOptions } from "./types.js";

/** What an app does with a conversation. */
export class Handle implements ConversationHandle {
  readonly key: string;
  readonly info: Observable<ConversationView>;
  readonly messages: Observable<MessagesState>;

  constructor(
    private readonly origin: Conversation,
    private readonly book: Book,
    private readonly journal: Pages,
    /** Told when a message was written. */
    private readonly sent: (conversation: Conversation) => void,
  ) {
    this.key = origin.key;
    this.info = origin.info;
    this.messages = origin.messages;
  }

  /** It may turn out to be another one. */
  private get conversation(): Conversation {
    return this.origin.real;
  }

  async send(content: string, { replyTo }: SendOptions = {}): Promise<string> {
    const id = this.book.writing.add(this.conversation, content, replyTo);
    this.sent(this.conversation);
    this.book.show();
    await this.journal.attempted();
    return id;
  }

  configured({ revision, ...settings }: ConfiguredConversation): void {
    this.conversation.configured(settings, revision);
    this.book.show();
  }

  async retry(messageKey: string): Promise<void> {
    this.book.writing.retry(this.conversation, messageKey);
    await this.journal.attempted();
  }

  async edit(messageKey: string, content: string): Promise<void> {
    this.book.writing.edit(this.conversation, messageKey, content);
    await this.journal.attempted();
  }

  async drop(messageKey: string): Promise<void> {
    this.book.writing.drop(this.conversation, messageKey);
    await this.journal.attempted();
  }

  markRead(): void {
    this.book.markRead(this.conversation);
  }

  loadOlder(): Promise<void> {
    return this.conversation.loadOlder((before) => this.book.loadOlder(this.conversation, before));
  }

  find(seq: number): Promise<MessageView | undefined> {
    return this.conversation.find(seq, (before) => this.book.loadOlder(this.conversation, before, 1));
  }
}
