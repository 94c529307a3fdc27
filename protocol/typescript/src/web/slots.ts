import type { Clock } from "../environment.js";
import { deleteDatabase } from "../storage/indexeddb.js";
import type { IndexedDbStorage } from "../storage/indexeddb.js";
import type { Locks, WebHost } from "./host.js";
import { attempt, pause } from "./host.js";

/**
 * Each tab is a device of its own, with a store of its own: its slot. A slot is used by one tab at a time, and by the next one when that is closed.
 */
export interface Slots {
  /** The slot of this tab. */
  readonly own: string;
  /** Whether a tab has the slot, as far as is known. */
  held(slot: string): Promise<boolean>;
  /** Waits until no tab has the slot. False if it is told to stop before. */
  free(slot: string, signal: AbortSignal): Promise<boolean>;
  /** Does something with a slot that no tab has, and that no tab gets meanwhile. False if a tab has it. */
  borrow(slot: string, work: () => Promise<void>): Promise<boolean>;
  /** Gives the slot of this tab back. */
  release(): void;
}

/** So many tabs can keep something. */
const MOST = 32;
/** A reload waits so long for the slot that it had. */
const RELOAD_MS = 250;

/** Takes a lock, and holds it until the function is called that it resolves with. Nothing if it is not available, or not any more wanted. */
async function hold(locks: Locks, name: string, options: { ifAvailable?: boolean; signal?: AbortSignal }): Promise<(() => void) | undefined> {
  try {
    return await new Promise((resolve, reject) => {
      const granted = (lock: unknown) => (lock ? new Promise<void>((release) => resolve(release)) : Promise.resolve(resolve(undefined)));
      locks.request(name, options, granted).catch(reject);
    });
  } catch (error) {
    if (options.signal?.aborted) return undefined;
    throw error;
  }
}

/** Slots 0 to 31, by locks of the browser: a lock ends with its tab, however that ends. */
export class LockSlots implements Slots {
  private constructor(private readonly locks: Locks, private readonly prefix: string, readonly own: string, readonly release: () => void) {}

  /** Takes the slot that the tab had before it was reloaded, or else the first one that is free. Nothing if none is. */
  static async take(locks: Locks, prefix: string, host: WebHost, clock: Clock): Promise<LockSlots | undefined> {
    const remembered = `${prefix}:slot`;
    const take = async (slot: string, options: { ifAvailable?: boolean; signal?: AbortSignal }) => {
      const release = await hold(locks, `${prefix}:slot-${slot}`, options);
      if (!release) return undefined;
      attempt(() => host.sessionStorage?.setItem(remembered, slot));
      return new LockSlots(locks, prefix, slot, release);
    };
    const before = attempt(() => host.sessionStorage?.getItem(remembered));
    if (before !== undefined && /^\d{1,2}$/.test(before) && Number(before) < MOST) {
      const late = new AbortController();
      const timer = clock.setTimeout(() => late.abort(), RELOAD_MS);
      const slots = await take(before, { signal: late.signal });
      clock.clearTimeout(timer);
      if (slots) return slots;
    }
    for (let slot = 0; slot < MOST; slot++) {
      const slots = await take(String(slot), { ifAvailable: true });
      if (slots) return slots;
    }
    return undefined;
  }

  async held(slot: string): Promise<boolean> {
    const release = await hold(this.locks, this.lock(slot), { ifAvailable: true });
    release?.();
    return release === undefined;
  }

  async free(slot: string, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    const release = await hold(this.locks, this.lock(slot), { signal });
    release?.();
    return release !== undefined;
  }

  async borrow(slot: string, work: () => Promise<void>): Promise<boolean> {
    const release = await hold(this.locks, this.lock(slot), { ifAvailable: true });
    if (!release) return false;
    try {
      await work();
      return true;
    } finally {
      release();
    }
  }

  private lock(slot: string): string {
    return `${this.prefix}:slot-${slot}`;
  }
}

/** Where the browser has no locks (no HTTPS), a tab says every minute that it lives. */
const STAMP_MS = 60_000;
const STALE_MS = 3 * STAMP_MS;
/** A store that nobody has used for so long is deleted. */
const EXPIRED_MS = 24 * 60 * STAMP_MS;

/** Slots by an id that the session storage of the tab keeps over a reload; who lives is known by what they write into the shared database. */
export class StampSlots implements Slots {
  private readonly end = new AbortController();
  /** Since when this tab runs without a break: after one it cannot say of others that they are late. */
  private awake: number;
  /** When it has last said that it lives. */
  private last: number;

  private constructor(private readonly shared: IndexedDbStorage, private readonly prefix: string, private readonly host: WebHost, private readonly clock: Clock, readonly own: string) {
    this.awake = this.last = clock.now();
    void this.live();
  }

  static take(shared: IndexedDbStorage, prefix: string, host: WebHost, clock: Clock, random: () => number): StampSlots {
    const remembered = `${prefix}:slot`;
    const before = attempt(() => host.sessionStorage?.getItem(remembered));
    const own = before !== undefined && /^s-[0-9a-f]{8}$/.test(before) ? before : `s-${Math.floor(random() * 2 ** 32).toString(16).padStart(8, "0")}`;
    const slots = new StampSlots(shared, prefix, host, clock, own);
    // A tab that is duplicated brings a copy along: the id is there only while nobody looks at this tab, and over a reload.
    const remember = () => void attempt(() => host.sessionStorage?.setItem(remembered, own));
    const forget = () => void attempt(() => host.sessionStorage?.removeItem(remembered));
    const seen = () => (host.document?.visibilityState === "hidden" ? remember() : forget());
    const on = (target: "document" | "window", name: string, call: () => void) => {
      host[target]?.addEventListener(name, call);
      slots.end.signal.addEventListener("abort", () => host[target]?.removeEventListener(name, call), { once: true });
    };
    seen();
    on("document", "visibilitychange", seen);
    on("window", "pagehide", remember);
    on("window", "pageshow", seen);
    slots.end.signal.addEventListener("abort", remember, { once: true });
    return slots;
  }

  async held(slot: string): Promise<boolean> {
    const stamp = await this.shared.get(`slot:${slot}`);
    return stamp !== undefined && !this.isStale(stamp);
  }

  async free(slot: string, signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      const stamp = await this.shared.get(`slot:${slot}`);
      if (stamp === undefined) return false;
      if (this.isStale(stamp)) return true;
      await pause(this.clock, STAMP_MS, signal);
    }
    return false;
  }

  async borrow(slot: string, work: () => Promise<void>): Promise<boolean> {
    const key = `slot:${slot}`;
    let before: string | undefined;
    await this.shared.update(key, (stamp) => {
      before = stamp !== undefined && this.isStale(stamp) ? stamp : undefined;
      return before === undefined ? undefined : String(this.clock.now());
    });
    if (before === undefined) return false;
    const claimed = before;
    try {
      await work();
    } catch (error) {
      await this.shared.write({ put: new Map([[key, claimed]]) });
      throw error;
    }
    const expired = this.clock.now() - Number(claimed) > EXPIRED_MS;
    if (expired && this.host.indexedDB) await deleteDatabase(`${this.prefix}:${slot}`, this.host.indexedDB);
    await this.shared.write({ put: new Map([[key, expired ? null : claimed]]) });
    return true;
  }

  release(): void {
    this.end.abort();
  }

  private isStale(stamp: string): boolean {
    const now = this.notice();
    return now - this.awake >= STALE_MS && now - Number(stamp) >= STALE_MS;
  }

  /** The time. Notices that the computer slept, or that the clock was set. */
  private notice(): number {
    const now = this.clock.now();
    if (now < this.last || now - this.last > 2 * STAMP_MS) this.awake = this.last = now;
    return now;
  }

  private async live(): Promise<void> {
    do {
      this.last = this.notice();
      await this.shared.write({ put: new Map([[`slot:${this.own}`, String(this.last)]]) }).catch(() => undefined);
    } while (await pause(this.clock, STAMP_MS, this.end.signal));
  }
}
