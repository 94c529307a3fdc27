import { misuse } from "./errors.js";

/**
 * What the client takes from outside: time, sockets, HTTP and chance. The defaults are those of the platform; tests bring their own.
 */
export interface Environment {
  clock: Clock;
  /** Opens a WebSocket. */
  socket: (url: string, protocol: string) => Socket;
  /** As the `fetch` of the platform. */
  fetch: typeof fetch;
  /** A number from 0 to below 1, for back-off. */
  random: () => number;
  /** A random UUID; for ids of messages and of the device. */
  uuid: () => string;
}

/** Time. */
export interface Clock {
  /** The time of day of the device, in milliseconds since the Unix epoch. It may be wrong, and may jump. */
  now(): number;
  /** Milliseconds since some moment: never jumps, may stand still while the device sleeps. */
  monotonic(): number;
  setTimeout(call: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** Told of an event. Written so that a `WebSocket` of the platform and one of `ws`, whose events have more, are a `Socket` as they are. */
type Listener<E> = { call(event: E): void }["call"];

/** The part of a WebSocket that the client uses. */
export interface Socket {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: { call(event?: unknown): void }["call"] | null;
  onmessage: Listener<{ data: unknown }> | null;
  onclose: Listener<{ code: number; reason: string }> | null;
  onerror: Listener<unknown> | null;
}

/** A value that changes. `subscribe` and `getSnapshot` are what React's `useSyncExternalStore` takes. */
export interface Observable<T> {
  /** Calls after each change, until the returned function is called. */
  subscribe: (listener: () => void) => () => void;
  /** The value now: the same object as long as nothing has changed. */
  getSnapshot: () => T;
}

/** What the platform has: browsers, React Native, Node from version 22, Deno, Bun. */
export function platformEnvironment(): Environment {
  return {
    clock: {
      now: () => Date.now(),
      monotonic: () => performance.now(),
      setTimeout: (call, ms) => setTimeout(call, ms),
      clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout> | undefined),
    },
    socket: (url, protocol) => new WebSocket(url, protocol),
    fetch: (input, init) => fetch(input, init),
    random: () => Math.random(),
    uuid,
  };
}

/** A timer of one purpose: what it is set to takes the place of what it was set to before. */
export class Timer {
  private running: unknown;
  /** When it calls, by the clock that does not jump. */
  private due = 0;

  constructor(private readonly clock: Clock) {}

  get isSet(): boolean {
    return this.running !== undefined;
  }

  /** Calls once, after so many milliseconds. */
  set(ms: number, call: () => void): void {
    this.stop();
    this.due = this.clock.monotonic() + ms;
    this.running = this.clock.setTimeout(() => {
      this.running = undefined;
      call();
    }, ms);
  }

  /** The same, but if it is set to an earlier moment that stays. */
  hasten(ms: number, call: () => void): void {
    if (!this.isSet || this.due > this.clock.monotonic() + ms) this.set(ms, call);
  }

  stop(): void {
    this.clock.clearTimeout(this.running);
    this.running = undefined;
  }
}

/** The address of a server. Throws for what is none: it would fail only later, and look like a network that fails. */
export function addressOf(url: unknown): string {
  const address = String(url).replace(/\/+$/, "");
  if (!/^https?:\/\/[^\s/?#]+[^\s?#]*$/i.test(address)) throw misuse("url: the address of a server looks like https://club.example");
  return address;
}

/** A random UUID (version 4). React Native has no `crypto` of its own: these ids have to be unique, and need not be secret. */
function uuid(): string {
  const { crypto } = globalThis as { crypto?: Partial<Crypto> };
  const byte = () => crypto?.getRandomValues?.(new Uint8Array(1))[0] ?? Math.random() * 256;
  return crypto?.randomUUID?.() ?? "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx".replace(/x/g, () => (byte() & 15).toString(16));
}
