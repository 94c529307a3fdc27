import { within } from "./check.js";
import type { Conversation } from "./conversation.js";
import type { Core, Extension } from "./extension.js";
import type { Limits, MemberId, ServerFrame } from "./protocol.js";

/** Typing is said again after so long, and has stopped when nothing was typed for so long; in milliseconds. */
const AGAIN_MS = 3_000;
const OVER_MS = 5_000;
/** How long somebody is shown as typing without a word, in milliseconds, until the server says so. */
const SHOWN_MS = 6_000;

/** What was said of one conversation. */
interface Said {
  readonly at: number;
  timer: unknown;
}

/** Who is typing, and that the member is. */
export class Typing implements Extension {
  /** Who is shown as typing, and until when. */
  private readonly shown = new Map<Conversation, Map<MemberId, unknown>>();
  private readonly said = new Map<Conversation, Said>();
  private shownMs = SHOWN_MS;
  /** Of who is signed in. */
  private core: Core | undefined;

  async begin(core: Core): Promise<void> {
    this.core = core;
  }

  online(limits?: Partial<Limits>): void {
    if (limits) this.shownMs = within(limits.typing_ttl_ms, 1_000, 60_000, SHOWN_MS);
    // It is said again, or it is over.
    else this.end();
  }

  pushed(frame: ServerFrame): void {
    if (frame.type === "typing") this.show(frame.conversation, frame.member, frame.active);
    else if (frame.type === "entry" && frame.entry?.kind === "message") this.show(frame.entry.conversation, frame.entry.sender, false);
  }

  sent(conversation: Conversation): void {
    // The message itself ends it, for those who get it.
    this.forget(conversation);
  }

  stop(): void {
    this.end();
    for (const conversation of [...this.said.keys()]) this.forget(conversation);
    this.core = undefined;
  }

  /** The member is typing, or has stopped. */
  say(key: string, active: boolean): void {
    const { core } = this;
    if (core) this.saying(core, core.book.withKey(key), active);
  }

  private saying(core: Core, conversation: Conversation, active: boolean): void {
    const { clock } = core.environment;
    const said = this.said.get(conversation);
    clock.clearTimeout(said?.timer);
    if (active) {
      const now = clock.monotonic();
      const again = !said || now - said.at >= AGAIN_MS;
      if (again) this.tell(core, conversation, true);
      const timer = clock.setTimeout(() => this.saying(core, conversation.real, false), OVER_MS);
      this.said.set(conversation, { at: again ? now : said.at, timer });
    } else if (said) {
      this.said.delete(conversation);
      this.tell(core, conversation, false);
    }
  }

  private tell({ connection }: Core, { state: { id }, others: [to] }: Conversation, active: boolean): void {
    if (id) connection.tell({ type: "typing", conversation: id, active });
    else if (to) connection.tell({ type: "typing", to, active });
  }

  private forget(conversation: Conversation): void {
    this.core?.environment.clock.clearTimeout(this.said.get(conversation)?.timer);
    this.said.delete(conversation);
  }

  private show(id: string, member: MemberId, active: boolean): void {
    if (!this.core) return;
    const { environment: { clock }, keys, book } = this.core;
    const conversation = book.withId(id);
    if (!conversation || typeof member !== "string" || member === keys.member) return;
    const shown = this.shown.get(conversation) ?? new Map<MemberId, unknown>();
    this.shown.set(conversation, shown);
    clock.clearTimeout(shown.get(member));
    shown.delete(member);
    if (active) shown.set(member, clock.setTimeout(() => this.show(id, member, false), this.shownMs));
    else if (shown.size === 0) this.shown.delete(conversation);
    conversation.types([...shown.keys()]);
  }

  /** Nobody is shown as typing. */
  private end(): void {
    for (const [conversation, shown] of this.shown) {
      for (const timer of shown.values()) this.core?.environment.clock.clearTimeout(timer);
      conversation.types([]);
    }
    this.shown.clear();
  }
}
