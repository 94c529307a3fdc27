import type { Api } from "./api.js";
import { Book, keyFor } from "./book.js";
import type { Connection } from "./connection.js";
import type { Conversation } from "./conversation.js";
import type { Environment } from "./environment.js";
import type { Core } from "./extension.js";
import { Handle } from "./handle.js";
import { OwnPages } from "./journal.js";
import type { Pages } from "./journal.js";
import type { MemberId } from "./protocol.js";
import { Keys } from "./records.js";
import type { SignedOutReason, Target } from "./types.js";

/** What of a client every sign-in uses. */
export interface Ground {
  readonly environment: Environment;
  readonly journal: Pages;
  readonly api: Api;
  readonly connection: Connection;
  /** Told when the member has written a message. */
  sent(conversation: Conversation): void;
}

/**
 * One member, from the moment in which the tokens are theirs until they are not: everything that is of the member hangs on it, and ends with it. The same member signing in again is another
 * one. One that has ended shows nothing and writes nothing, whoever still holds something of it.
 */
export class SignIn {
  readonly keys: Keys;
  readonly journal: OwnPages;
  readonly book: Book;
  readonly core: Core;
  /** It is shown: what is stored has been read. */
  shown = false;
  ended = false;
  /** Why it has ended, if it was not by another one. */
  reason: SignedOutReason | undefined;
  private readonly handles = new Map<string, Handle>();

  constructor(member: MemberId, private readonly ground: Ground) {
    const { environment, journal, api, connection } = ground;
    this.keys = new Keys(member);
    this.journal = new OwnPages(journal);
    this.book = new Book(environment, this.journal, this.keys, connection);
    this.core = { environment, journal: this.journal, keys: this.keys, api, connection, book: this.book };
  }

  get member(): MemberId {
    return this.keys.member;
  }

  conversation(target: Target): Handle {
    const { book, handles } = this;
    const conversation = book.conversation(target);
    const asked = keyFor(target);
    const handle = handles.get(asked) ?? handles.get(conversation.key) ?? new Handle(conversation, book, this.journal, (written) => this.ground.sent(written));
    // What was given for a target once is given for it always.
    for (const key of [asked, conversation.key]) if (!handles.has(key)) handles.set(key, handle);
    return handle;
  }

  /** Ends it. `hide`: nothing is shown any more; without it the client stops, and screens stay as they are. */
  end(hide: boolean): void {
    this.ended = true;
    this.book.stop();
    this.journal.end();
    if (hide) this.book.hide();
  }
}
