import { Backoff } from "../backoff.js";
import { Timer } from "../environment.js";
import type { Observable } from "../environment.js";
import { given } from "../json.js";
import { problemOf, retryAfter } from "../problem.js";
import type { ClubInfo, ClubPush, ConversationId, DeviceId, Platform, PushAddress } from "../protocol.js";
import { Queue } from "../storage/queue.js";
import type { MembersBook, Problem } from "../types.js";
import { alike, Value } from "../value.js";
import { reach } from "./reach.js";
import type { Reach } from "./reach.js";
import { Push } from "./rest.js";
import { Reconciler } from "./tray.js";
import type { Tray } from "./tray.js";

/**
 * Whether messages are pushed to this device. `unknown`: nobody is signed in, or the server was not reached yet. `unavailable`: this device cannot have them, or the server pushes nothing to
 * it. `blocked`: they were refused, and only the settings of the browser or of the system allow them again. `undecided`: `enable()` asks. `off`: they are allowed, and
 * were turned off here. `on`: they are pushed; with a problem, they will be as soon as that is over.
 */
export type PushStatus = "unknown" | "unavailable" | "blocked" | "undecided" | "off" | "on";

export interface PushState {
  readonly status: PushStatus;
  /** As which device the server has it, once it has; in a browser that of the tab that has the address. */
  readonly device?: DeviceId;
  /** Why this device is not registered, though it should be. */
  readonly problem?: Problem;
}

/** Small values of this device, which outlive the app; nothing secret. Tabs of a browser share them: `localStorage` in a browser, `expo-sqlite/kv-store` in an app. */
export interface Memory {
  get(key: string): string | undefined;
  /** `null` removes it. */
  set(key: string, value: string | null): void;
}

/** What every kind of push is made of. */
export interface PushOptions {
  readonly client: MembersBook;
  /** Opens a conversation: a notification of it was pressed. The key of its screen is `client.conversation({ conversation }).key`. */
  readonly open: (conversation: ConversationId) => void;
  /** Whether the member is looking at a conversation: nothing is shown for it then. */
  readonly isOpen?: (conversation: ConversationId) => boolean;
  /** What is kept of this device. */
  readonly memory: Memory;
  /** Told what fails and is of no consequence, for a log. */
  readonly debug?: (what: string, error: unknown) => void;
}

export type Permission = "granted" | "denied" | "undecided" | "unavailable";

/** What a platform has for pushes. */
export interface Surface {
  readonly platform: Platform;
  /** Several clients (tabs) have one address between them. */
  readonly shared: boolean;
  readonly tray: Tray;
  /** Whether there is somebody before it: tabs that nobody looks at leave the address to the others. */
  readonly seen: boolean;
  /** What the member has decided, if there is anything to decide with this server. */
  permission(club: ClubPush): Promise<Permission>;
  /** Asks the member, if they have not decided. Called in the moment of a press. */
  ask(): Promise<Permission>;
  /** Where pushes for this device are sent. Nothing if the server pushes nothing to it. Rejects if it cannot be had now. */
  address(club: ClubPush): Promise<PushAddress | undefined>;
  /** Nothing is to arrive any more. `told`: the server knows. */
  release(told: boolean): Promise<void>;
  /** Begins to tell: something may have changed (the permission, the address, what is shown, who looks). Returns what ends that. */
  follow(changed: () => void): () => void;
}

/** How long the server is waited for before a log-out, in milliseconds. */
const LEAVE_MS = 3_000;
/** So often a registration that failed is tried while nothing else happens. */
const TRIES = 6;
/** In the memory: they were turned off here. The device that has the address. */
const OFF = "push.off";
const REGISTERED = "push.device";

/** Pushes to this device: made once, together with the client. */
export class DevicePush {
  readonly push: Push;
  private readonly value = new Value<PushState>({ status: "unknown" });
  readonly state: Observable<PushState> = this.value;
  private readonly client: MembersBook;
  private readonly memory: Memory;
  private readonly reach: Reach;
  private readonly turns = new Queue();
  private readonly reconciler: Reconciler;
  private readonly ends: (() => void)[];
  private club: ClubPush | undefined;
  /** What the server was told last, in this sign-in. */
  private told: string | undefined;
  private leaving = false;
  private stopped = false;
  private waiting = false;
  /** Counts what the member has asked for: the last holds. */
  private wishes = 0;
  private retry: { timer: Timer; backoff: Backoff; tries: number } | undefined;

  protected constructor(private readonly options: PushOptions, private readonly surface: Surface) {
    const { client, memory } = options;
    this.client = client;
    this.memory = memory;
    this.push = new Push(client.api);
    this.reach = client.extend(reach);
    this.reconciler = new Reconciler(client, surface.tray, (error) => this.debug("notifications", error));
    this.ends = [
      client.session.subscribe(() => {
        if (client.session.getSnapshot().status !== "signed_in") this.told = undefined;
        this.look();
      }),
      client.connection.subscribe(() => {
        if (client.connection.getSnapshot().status === "online") this.look();
      }),
      surface.follow(() => {
        this.look();
        void this.reconciler.look();
      }),
    ];
    this.look();
  }

  /** Asks whether notifications may be shown, and registers this device. Call it in the moment of a press: browsers ask then only. */
  async enable(): Promise<PushState> {
    const wish = ++this.wishes;
    const asked = this.surface.ask();
    await asked.catch((error: unknown) => this.debug("permission", error));
    // They may have been turned off while the member was asked.
    if (wish === this.wishes) {
      this.memory.set(OFF, null);
      this.told = undefined;
    }
    await this.work();
    return this.value.getSnapshot();
  }

  /** Turns them off on this device, until `enable()`. */
  async disable(): Promise<PushState> {
    this.wishes += 1;
    this.memory.set(OFF, "1");
    await this.work();
    return this.value.getSnapshot();
  }

  /** As `client.logout`; ends the registration before, while the server knows who asks. What is shown is closed, and where the server is not reached this device ends what it can. */
  async logout(options?: { all?: boolean }): Promise<void> {
    this.leaving = true;
    try {
      const told = this.turns.run(() => this.unregister(LEAVE_MS)).catch((error: unknown) => this.debug("not unregistered", error));
      // What is under way, or the tokens, may take longer: who logs out does not wait for a network.
      await Promise.race([told, this.pause(LEAVE_MS)]);
      await this.client.logout(options);
    } finally {
      this.leaving = false;
      // It may have failed: then the member is still signed in, and has pushes as before.
      await this.work();
    }
  }

  /** Compares what is shown with what is read, now. It is done by itself whenever that changes. */
  reconcile(): Promise<void> {
    return this.reconciler.look();
  }

  /** Stops looking. What is registered stays. */
  stop(): void {
    this.stopped = true;
    this.retry?.timer.stop();
    this.reconciler.stop();
    for (const end of this.ends.splice(0)) end();
  }

  private look(): void {
    // Many changes at once are one look.
    if (this.waiting) return;
    this.waiting = true;
    void this.work();
  }

  private work(): Promise<void> {
    return this.turns.run(async () => {
      this.waiting = false;
      // Who is about to log out is not registered once more.
      if (this.stopped || (this.leaving && this.client.session.getSnapshot().status === "signed_in")) return;
      this.retry?.timer.stop();
      try {
        const status = await this.settle();
        if (status) this.show({ status, ...(status === "on" ? given({ device: this.memory.get(REGISTERED) }) : {}) });
        if (this.retry) this.retry.tries = 0;
      } catch (error) {
        this.debug("not registered", error);
        const problem = problemOf(error);
        this.show({ status: problem.code === "push_unavailable" ? "unavailable" : this.value.getSnapshot().status, problem });
        if (problem.verdict === "retry" && problem.code !== "push_unavailable") this.later(retryAfter(error));
      }
    });
  }

  /** Brings the server to what is wanted here. Nothing, if that is not known yet. */
  private async settle(): Promise<PushStatus | undefined> {
    const { status } = this.client.session.getSnapshot();
    if (status === "loading") return undefined;
    if (status === "signed_out") {
      await this.signedOut();
      return "unknown";
    }
    const club = (this.club ??= (await this.client.api.json<Partial<ClubInfo>>("/api/club", { anonymous: true })).push ?? { enabled: false, web_key: null });
    const permission = club.enabled ? await this.surface.permission(club) : "unavailable";
    if (permission === "unavailable") return "unavailable";
    const off = this.memory.get(OFF) !== undefined;
    if (permission !== "granted" || off) {
      const shown = permission === "granted" ? "off" : permission === "denied" ? "blocked" : "undecided";
      this.show({ status: shown });
      await this.unregister();
      if (off) await this.surface.release(true);
      return shown;
    }
    return this.register(club);
  }

  private async register(club: ClubPush): Promise<PushStatus> {
    const { surface, memory } = this;
    if (this.value.getSnapshot().status !== "on") this.show({ status: "on" });
    const address = await surface.address(club);
    if (!address) return "unavailable";
    const device = await this.reach.device();
    const holder = memory.get(REGISTERED);
    // Whichever tab is looked at has the address: it is the one that says what has arrived. The others leave it to that.
    const left = surface.shared && !surface.seen && holder !== undefined && holder !== device;
    const telling = JSON.stringify([device, address, this.reach.replaced]);
    if (device === undefined || left || (telling === this.told && device === holder)) return "on";
    await this.push.register(device, { address, platform: surface.platform });
    if (this.client.session.getSnapshot().status !== "signed_in") return "unknown";
    this.told = telling;
    memory.set(REGISTERED, device);
    return "on";
  }

  /** The server is to push nothing here any more, if it does. */
  private async unregister(timeoutMs?: number): Promise<void> {
    const device: DeviceId | undefined = this.memory.get(REGISTERED);
    if (device === undefined || this.client.session.getSnapshot().status !== "signed_in") return;
    this.told = undefined;
    await this.push.unregister(device, timeoutMs);
    this.memory.set(REGISTERED, null);
  }

  /** Nobody is signed in: nothing of a member is shown here or may come. */
  private async signedOut(): Promise<void> {
    const told = this.memory.get(REGISTERED) === undefined;
    await this.surface.release(told).catch((error: unknown) => this.debug("not released", error));
    this.memory.set(REGISTERED, null);
    await this.reconciler.clear();
  }

  private pause(ms: number): Promise<void> {
    const { environment } = this.reach;
    return new Promise((resolve) => (environment ? environment.clock.setTimeout(resolve, ms) : resolve()));
  }

  private later(afterMs: number | undefined): void {
    const { environment } = this.reach;
    if (!environment || this.stopped) return;
    this.retry ??= { timer: new Timer(environment.clock), backoff: new Backoff(environment.random), tries: 0 };
    const { retry } = this;
    retry.tries += 1;
    // Then with the next connection, or when the member comes back to it.
    if (retry.tries <= TRIES) retry.timer.set(retry.backoff.next(afterMs), () => this.look());
  }

  private show(state: PushState): void {
    if (!this.stopped && !alike(state, this.value.getSnapshot())) this.value.set(state);
  }

  private debug(what: string, error: unknown): void {
    this.options.debug?.(what, error);
  }
}
