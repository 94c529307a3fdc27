import { useCallback, useSyncExternalStore } from "react";

const MINUTE_MS = 60_000;

const listeners = new Set<() => void>();
let timer: ReturnType<typeof setTimeout> | undefined;

function tick(): void {
  wait();
  for (const listener of [...listeners]) listener();
}

/** Until the minute changes, and with it perhaps the day. */
function wait(): void {
  timer = setTimeout(tick, MINUTE_MS - (Date.now() % MINUTE_MS));
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (listeners.size === 1) wait();
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) clearTimeout(timer);
  };
}

/** Words that depend on the time, in milliseconds since the Unix epoch: looked at anew with every minute, and drawn again only if they are others. */
export function useTicking<T extends string | undefined>(words: (now: number) => T): T {
  const read = useCallback(() => words(Date.now()), [words]);
  return useSyncExternalStore(subscribe, read, read);
}
