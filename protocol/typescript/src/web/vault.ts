import type { Clock } from "../environment.js";
import type { IndexedDbStorage } from "../storage/indexeddb.js";
import type { Erasure, Vault } from "../storage.js";
import type { Locks } from "./host.js";
import { pause } from "./host.js";

const TOKENS = "tokens";
/** What has to go from the store of a slot: `erase:<slot>:<what>`. */
const ERASE = "erase:";
const LEASE = "lease";
/** A lease ends by itself when its tab has died. */
const LEASE_MS = 30_000;

/** Runs work while no other tab does. */
export type Mutex = <T>(work: () => Promise<T>) => Promise<T>;

/** The tokens of all tabs, in the database that they share. */
export class WebVault implements Vault {
  constructor(
    private readonly database: IndexedDbStorage,
    readonly exclusive: Mutex,
    /** The tokens were changed by this tab: the others have to look. */
    private readonly changed: () => void,
    /** The slot of this tab. */
    private readonly own: () => string | undefined = () => undefined,
    /** Whether a tab has a slot. */
    private readonly held: (slot: string) => Promise<boolean> = () => Promise.resolve(false),
  ) {}

  async shared(): Promise<boolean> {
    for (const slot of await knownSlots(this.database)) if (slot !== this.own() && (await this.held(slot))) return true;
    return false;
  }

  get(): Promise<string | undefined> {
    return this.database.get(TOKENS);
  }

  /** What has to go is noted for every slot that has a store: a tab that takes one later begins with nothing, or with what is noted. */
  async set(value: string | null, erase?: Erasure): Promise<void> {
    const put = new Map([[TOKENS, value]]);
    if (erase !== undefined) for (const slot of await knownSlots(this.database)) put.set(`${ERASE}${slot}:${erase}`, "");
    await this.database.write({ put });
    this.changed();
  }

  async erasing(slot = this.own()): Promise<Erasure[]> {
    if (slot === undefined) return [];
    const prefix = `${ERASE}${slot}:`;
    return (await this.database.range(prefix, `${prefix}~`)).map(([key]) => key.slice(prefix.length));
  }

  async erased(gone: readonly Erasure[], slot = this.own()): Promise<void> {
    await this.database.write({ put: new Map(gone.map((each) => [`${ERASE}${slot}:${each}`, null])) });
  }
}

/** The slots that have a store, in their order. */
export async function knownSlots(shared: IndexedDbStorage): Promise<string[]> {
  const slots = (await shared.range("slot:", "slot:~")).map(([key]) => key.slice("slot:".length));
  return slots.sort((a, b) => Number(a) - Number(b) || (a < b ? -1 : 1));
}

/** By a lock of the browser: it ends with the tab. */
export function lockMutex(locks: Locks, name: string): Mutex {
  return (work) => locks.request(name, {}, work);
}

/** By a lease in the shared database, where the browser has no locks. */
export function leaseMutex(shared: IndexedDbStorage, clock: Clock, owner: string, random: () => number): Mutex {
  let turn = 0;
  const never = new AbortController().signal;
  const lease = (own: string) => JSON.stringify({ own, until: clock.now() + LEASE_MS });

  return async (work) => {
    const own = `${owner}/${turn++}`;
    for (;;) {
      let taken = false;
      await shared.update(LEASE, (value) => {
        taken = !isHeld(value, clock.now());
        return taken ? lease(own) : undefined;
      });
      if (taken) break;
      await pause(clock, 50 + random() * 100, never);
    }
    const stop = new AbortController();
    void (async () => {
      while (await pause(clock, LEASE_MS / 3, stop.signal)) {
        await shared.update(LEASE, (value) => (isOf(value, own) ? lease(own) : undefined)).catch(() => undefined);
      }
    })();
    try {
      return await work();
    } finally {
      stop.abort();
      await shared.update(LEASE, (value) => (isOf(value, own) ? null : undefined)).catch(() => undefined);
    }
  };
}

function read(value: string | undefined): { own?: unknown; until?: unknown } {
  try {
    return JSON.parse(value ?? "{}") as { own?: unknown; until?: unknown };
  } catch {
    return {};
  }
}

/** One that ends later than any can was made before the clock was set back. */
function isHeld(value: string | undefined, now: number): boolean {
  const { until } = read(value);
  return typeof until === "number" && until > now && until <= now + LEASE_MS;
}

function isOf(value: string | undefined, own: string): boolean {
  return read(value).own === own;
}
