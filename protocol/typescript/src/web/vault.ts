import type { Clock } from "../environment.js";
import type { IndexedDbStorage } from "../storage/indexeddb.js";
import type { Vault } from "../storage.js";
import type { Locks } from "./host.js";
import { pause } from "./host.js";

const TOKENS = "tokens";
const LEASE = "lease";
/** A lease ends by itself when its tab has died. */
const LEASE_MS = 30_000;

/** Runs work while no other tab does. */
export type Mutex = <T>(work: () => Promise<T>) => Promise<T>;

/** The tokens of all tabs, in the database that they share. */
export class WebVault implements Vault {
  constructor(
    private readonly shared: IndexedDbStorage,
    readonly exclusive: Mutex,
    /** The tokens were changed by this tab: the others have to look. */
    private readonly changed: () => void,
  ) {}

  get(): Promise<string | undefined> {
    return this.shared.get(TOKENS);
  }

  async set(value: string | null): Promise<void> {
    await this.shared.write({ put: new Map([[TOKENS, value]]) });
    this.changed();
  }
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
