import { isId, OUTBOX, read } from "../check.js";
import { Client } from "../client.js";
import { rangesOfOthers } from "../records.js";
import type { Storage } from "../storage.js";
import type { ClientOptions } from "../types.js";

/** The client of one tab. */
export class WebClient extends Client {
  /** Where it keeps what it has. Nothing if the browser keeps nothing: unsent messages end with the tab. */
  readonly slot: string | undefined;

  constructor(
    options: ClientOptions,
    slot?: string,
    /** `idle`: there is no browser, and it does nothing. `memory`: the browser keeps nothing. */
    private readonly kind?: "idle" | "memory" | false,
  ) {
    super(options);
    this.slot = slot;
    if (kind === "idle") this.debug("no browser: does nothing");
    if (kind === "memory") this.storageFails({ unwritten: true });
  }

  override async start(): Promise<void> {
    if (this.kind !== "idle" || this.stopped) return super.start();
  }

  override unsent(): number | undefined {
    return this.kind === "memory" ? undefined : super.unsent();
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
   * Takes over the unsent messages of a storage that nobody uses any more (of a tab that was closed), and removes them there, and what was read there and may not have been said. Returns how many
   * messages. What was taken over and not removed is taken over again; the server stores it once.
   */
  async adopt(storage: Storage): Promise<number> {
    if (!this.signedIn) return 0;
    const { keys, book, journal } = this.signedIn;
    const found = await storage.range(...keys.outbox);
    // Rejects if that sign-in has ended meanwhile: it keeps nothing any more, and what is removed there must be here.
    const outbox = book.writing;
    let messages = 0;
    for (const [, value] of found) {
      const record = read(value, OUTBOX);
      if (!record) book.takeRead(value);
      else if (isId(record.conversation.slice(2))) {
        outbox.take(book.conversation(this.target(record.conversation)), record);
        messages += 1;
      }
    }
    await journal.stored();
    await storage.write({ clear: rangesOfOthers(keys), put: new Map(found.map(([key]) => [key, null])) });
    return messages;
  }
}
