import type { Api } from "./api.js";
import type { Book } from "./book.js";
import type { Connection } from "./connection.js";
import type { Conversation } from "./conversation.js";
import type { Environment } from "./environment.js";
import type { Pages } from "./journal.js";
import type { Limits, ServerFrame } from "./protocol.js";
import type { Keys } from "./records.js";

/** What an extension is given of the client, for one sign-in: when that has ended `journal` writes nothing any more. */
export interface Core {
  readonly environment: Environment;
  readonly journal: Pages;
  readonly keys: Keys;
  readonly api: Api;
  readonly connection: Connection;
  readonly book: Book;
}

/** What adds to the client and is not carried by an app that does not import it. It lives as long as the client: members sign in and out. */
export interface Extension {
  /** A member signs in: takes up what is stored. Never rejects. */
  begin(core: Core): Promise<void>;
  /** A frame that is no reply to a request, or is one of settings. Only its type has been looked at. */
  pushed(frame: ServerFrame): void;
  /** Requests are answered from now on, within these limits; without them: they are not any more. What the limits are has not been looked at. */
  online(limits?: Partial<Limits>): void;
  /** The member has written a message. */
  sent?(conversation: Conversation): void;
  /** The member has signed out: nothing is known any more. */
  stop(): void;
}

/** Makes an extension. The same function stands for the same extension. */
export type Extend<E extends Extension> = () => E;
