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

/** The part of a WebSocket that the client uses. */
export interface Socket {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: unknown) => void) | null;
}

/** A value that changes. `subscribe` and `getSnapshot` are what React's `useSyncExternalStore` takes. */
export interface Observable<T> {
  /** Calls after each change, until the returned function is called. */
  subscribe: (listener: () => void) => () => void;
  /** The value now: the same object as long as nothing has changed. */
  getSnapshot: () => T;
}
