import type { ConversationId } from "../protocol.js";
import type { MembersBook } from "../types.js";

/** A notification that is shown. */
export interface Shown {
  /** What the platform closes it by. */
  readonly id: unknown;
  /** Missing where the member has chosen that nothing is shown: then it tells of any message. */
  readonly conversation?: ConversationId;
  /** The newest message that it tells of. */
  readonly seq: number;
}

/** A notification, if it is one of messages. */
export function shownAs(id: unknown, data: unknown): Shown[] {
  const { kind, conversation, seq } = (data ?? {}) as { kind?: unknown; conversation?: ConversationId; seq?: unknown };
  if (typeof conversation === "string") return [{ id, conversation, seq: typeof seq === "number" ? seq : 0 }];
  return kind === "message" ? [{ id, seq: 0 }] : [];
}

/** Where a platform shows notifications, and the number at the icon of the app. */
export interface Tray {
  shown(): Promise<readonly Shown[]>;
  close(shown: Shown): Promise<void> | void;
  /** How many messages are unread; 0 takes the number away. */
  badge(count: number): Promise<void>;
}

/**
 * Keeps the notifications of this device in step with what was read, here or on another device: one whose messages are read is closed, one that says of no conversation when nothing is
 * unread, and the number at the icon is that of all unread messages. What the client does not know yet stays: it was pushed because the client had not got it.
 */
export class Reconciler {
  private running: Promise<void> | undefined;
  private again = false;
  /** Since when the number that the client has is one of the server: not before the first connection. */
  private current = false;
  private count: number | undefined;
  private readonly ends: (() => void)[];

  constructor(private readonly client: MembersBook, private readonly tray: Tray, private readonly onError: (error: unknown) => void) {
    const look = () => void this.look();
    this.ends = [
      client.unread.subscribe(look),
      client.conversations.subscribe(look),
      client.connection.subscribe(() => {
        // Whatever a push has made of the number while the app slept.
        if (client.connection.getSnapshot().status === "online") this.look(true);
      }),
    ];
    this.look(client.connection.getSnapshot().status === "online");
  }

  /** Looks now, and once more if it is looking already. `caughtUp`: what the client has is what the server has. */
  look(caughtUp = false): Promise<void> {
    if (caughtUp) {
      this.current = true;
      this.count = undefined;
    }
    this.again = true;
    this.running ??= this.work().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  /** Nobody is signed in any more: nothing of the member stays in sight. */
  async clear(): Promise<void> {
    this.current = false;
    this.count = undefined;
    await this.running;
    await this.attempt(async () => {
      for (const each of await this.tray.shown()) await this.tray.close(each);
    });
    await this.attempt(() => this.tray.badge(0));
  }

  stop(): void {
    for (const end of this.ends.splice(0)) end();
  }

  private async work(): Promise<void> {
    while (this.again) {
      this.again = false;
      // Everything that changes at one moment is one look.
      await Promise.resolve();
      if (this.client.session.getSnapshot().status !== "signed_in") return;
      await this.attempt(() => this.closeRead());
      await this.attempt(() => this.showCount());
    }
  }

  private async closeRead(): Promise<void> {
    for (const each of await this.tray.shown()) if (this.isRead(each)) await this.tray.close(each);
  }

  private isRead({ conversation, seq }: Shown): boolean {
    const { conversations, ready } = this.client.conversations.getSnapshot();
    // Whether anything else is unread is known only when everything is.
    if (conversation === undefined) return this.current && ready && this.client.unread.getSnapshot().total === 0;
    const known = conversations.find(({ id }) => id === conversation);
    // The newest one may be of the outbox: then everything before it was seen.
    return known !== undefined && known.unread === 0 && known.last !== undefined && (known.last.seq ?? (known.last.own ? Infinity : 0)) >= seq;
  }

  private async showCount(): Promise<void> {
    const { total } = this.client.unread.getSnapshot();
    if (!this.current || total === this.count || !this.client.conversations.getSnapshot().ready) return;
    this.count = total;
    await this.tray.badge(total);
  }

  private async attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.onError(error);
    }
  }
}
