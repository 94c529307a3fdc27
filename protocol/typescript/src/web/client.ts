import { isId, OUTBOX, read } from "../check.js";
import { Client } from "../client.js";
import { rangesOfOthers } from "../records.js";
import type { Storage } from "../storage.js";
import type { ClientOptions } from "../types.js";

/** The client of one tab. */
export class WebClient extends Client {
  /** Where it keeps what it has. Nothing if the browser keeps nothing: unsent messages end with the tab. */
  readonly slot: string | undefined;

  constructor(options: ClientOptions, slot?: string) {
    super(options);
    this.slot = slot;
  }

  /** Another tab may have signed out, or in: looks, and does the same. */
  async checkSession(): Promise<void> {
    if (!this.started) return;
    await this.started;
    await this.tokens.check();
    await this.eraseNoted();
    if (!this.stopped) await this.takeUp().catch(() => undefined);
  }

  /**
   * Takes over the unsent messages of a storage that nobody uses any more (of a tab that was closed), and removes them there. Returns how many. What was taken over
   * and not removed is taken over again; the server stores it once.
   */
  async adopt(storage: Storage): Promise<number> {
    if (!this.signedIn) return 0;
    const { keys, book, journal } = this.signedIn;
    const found = await storage.range(...keys.outbox);
    for (const [, value] of found) {
      const record = read(value, OUTBOX);
      if (record && isId(record.conversation.slice(2))) book.outbox.take(book.conversation(this.target(record.conversation)), record);
    }
    await journal.stored();
    await storage.write({ clear: rangesOfOthers(keys), put: new Map(found.map(([key]) => [key, null])) });
    return found.length;
  }
}
