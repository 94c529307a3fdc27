import type { Clock, Observable } from "../environment.js";
import type { DeviceStatus } from "../protocol.js";
import type { Storage } from "../storage.js";
import type { DebugEvent, SessionState } from "../types.js";

/** The part of `LockManager` that is used. */
export interface Locks {
  request<T>(name: string, options: { ifAvailable?: boolean; signal?: AbortSignal }, work: (lock: unknown) => Promise<T>): Promise<T>;
}

/** The part of `BroadcastChannel` that is used. */
export interface Channel {
  postMessage(message: unknown): void;
  close(): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

export type Events = Pick<EventTarget, "addEventListener" | "removeEventListener">;

/** What the browser has. Everything may be missing: in private windows, without HTTPS, where pages are rendered on a server. */
export interface WebHost {
  readonly indexedDB?: IDBFactory | undefined;
  readonly locks?: Locks | undefined;
  /** Survives a reload of the tab, and nothing else. */
  readonly sessionStorage?: Pick<globalThis.Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  readonly channel?: ((name: string) => Channel) | undefined;
  readonly document?: (Events & { readonly visibilityState: string }) | undefined;
  readonly window?: Events | undefined;
  /** Tells of changes of the network. */
  readonly network?: Events | undefined;
}

/** The part of the client that a tab uses. */
export interface TabClient {
  readonly session: Observable<SessionState>;
  wake(): void;
  setStatus(status: DeviceStatus): void;
  checkSession(): Promise<void>;
  adopt(storage: Storage): Promise<number>;
}

export type Debug = (what: string, details?: DebugEvent["details"]) => void;

/** What this browser has. */
export function platformHost(): WebHost {
  const { document, window } = globalThis as Partial<Pick<typeof globalThis, "document" | "window">>;
  // Outside of browsers some of it exists as well, and would keep the process running.
  if (!document || !window) return {};
  return {
    document,
    window,
    indexedDB: attempt(() => window.indexedDB),
    locks: attempt(() => navigator.locks as Locks | undefined),
    sessionStorage: attempt(() => window.sessionStorage),
    channel: typeof BroadcastChannel === "undefined" ? undefined : (name) => new BroadcastChannel(name) as Channel,
    network: attempt(() => (navigator as { connection?: Partial<Events> }).connection?.addEventListener && (navigator as { connection?: Events }).connection),
  };
}

/** Some browsers throw where nothing may be stored. */
export function attempt<T>(get: () => T): NonNullable<T> | undefined {
  try {
    return get() ?? undefined;
  } catch {
    return undefined;
  }
}

/** Waits; ends early, with false, if it is told to stop. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(false);
    const stop = () => {
      clock.clearTimeout(timer);
      resolve(false);
    };
    const timer = clock.setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve(true);
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
