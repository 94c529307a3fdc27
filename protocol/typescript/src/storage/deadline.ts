import type { Clock } from "../environment.js";
import type { Storage, Vault } from "../storage.js";
import { failed } from "./changes.js";

/**
 * How long an answer of a storage or a vault is waited for, in milliseconds: as long as one of the server, and no shorter than the stores of this package wait for what they know of (SQLite 5 s for a lock,
 * IndexedDB 10 s to open, twice). A device that wakes after longer may find the deadline over and the answer there a moment later: that costs nothing.
 */
export const ANSWER_MS = 20_000;

/** Why a call failed: there was no answer in time. It may be done still, at any time. */
interface Late {
  readonly late: true;
}

/** Whether what has failed with this error may be done still. */
export function isLate(error: unknown): boolean {
  return (error as Partial<Late> | undefined)?.late === true;
}

/** The answer; rejects with `storage` when it has not come in time. `onLate` is told before that. */
export function inTime<T>(answer: Promise<T>, clock: Pick<Clock, "setTimeout" | "clearTimeout"> = globalThis, onLate: () => void = () => undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimeout(() => {
      onLate();
      reject(Object.assign(failed("The storage does not answer."), { late: true } satisfies Late));
    }, ANSWER_MS);
    answer.then(resolve, reject).finally(() => clock.clearTimeout(timer));
  });
}

/**
 * The same storage, with a deadline for every call. A change that is late may be made still. Until it is known what became of it the next ones are refused at once: whoever repeats it, with what has come
 * since, does so after it, and changes nothing twice.
 */
export function timely(storage: Storage, clock: Clock): Storage {
  let opening: Promise<void> | undefined;
  let late = false;
  return {
    // One that is late is waited for again: it may be open by then.
    open: () => inTime((opening ??= storage.open().finally(() => (opening = undefined))), clock),
    get: (key) => inTime(storage.get(key), clock),
    range: (from, to) => inTime(storage.range(from, to), clock),
    write: async (changes) => {
      if (late) throw failed("The storage does not answer.");
      const answer = storage.write(changes);
      const known = () => {
        late = false;
      };
      await inTime(answer, clock, () => {
        late = true;
        answer.then(known, known);
      });
    },
    close: () => inTime(storage.close(), clock),
  };
}

/** The same vault, with a deadline for every call. What is done alone there takes as long as it takes: each call in it has its own. */
export function timelyVault(vault: Vault, clock: Clock): Vault {
  return {
    get: () => inTime(vault.get(), clock),
    set: (value, erase) => inTime(vault.set(value, erase), clock),
    erasing: () => inTime(vault.erasing(), clock),
    erased: (gone) => inTime(vault.erased(gone), clock),
    shared: async () => (vault.shared ? inTime(vault.shared(), clock) : false),
    exclusive: (work) => vault.exclusive(work),
  };
}
