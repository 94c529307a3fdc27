import type { Clock } from "../environment.js";
import type { Storage, Vault } from "../storage.js";
import { failed } from "./changes.js";

/**
 * How long an answer of a storage or a vault is waited for, in milliseconds: as long as one of the server, and no shorter than the stores of this package wait for what they know of (SQLite 5 s for a lock,
 * IndexedDB 10 s to open, twice). A device that wakes after longer may find the deadline over and the answer there a moment later: that costs nothing.
 */
export const ANSWER_MS = 20_000;
/** So long where one was late already, and nothing has come since. */
const SILENT_MS = 1_000;

/** Why a call failed: there was no answer in time. It may be done still, at any time. */
interface Late {
  readonly late: true;
}

/** Whether what has failed with this error may be done still. */
export function isLate(error: unknown): boolean {
  return (error as Partial<Late> | undefined)?.late === true;
}

/** The answer; rejects with `storage` when it has not come in time. `onLate` is told before that. */
export function inTime<T>(answer: Promise<T>, clock: Pick<Clock, "setTimeout" | "clearTimeout"> = globalThis, onLate: () => void = () => undefined, ms = ANSWER_MS): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimeout(() => {
      onLate();
      reject(Object.assign(failed("The storage does not answer."), { late: true } satisfies Late));
    }, ms);
    answer.then(resolve, reject).finally(() => clock.clearTimeout(timer));
  });
}

/** Waits for calls of one thing. What makes several does not wait for each as long: where one was late the next ones have less time, until there is an answer to any. */
function patience(clock: Clock): <T>(answer: Promise<T>) => Promise<T> {
  let silent = false;
  const heard = () => {
    silent = false;
  };
  return (answer) => {
    answer.then(heard, heard);
    return inTime(answer, clock, () => (silent = true), silent ? SILENT_MS : ANSWER_MS);
  };
}

/**
 * The same storage, with a deadline for every call. A change that is late may be made still. Until it is known what became of it the next ones are refused at once: whoever repeats it, with what has come
 * since, does so after it, and changes nothing twice.
 */
export function timely(storage: Storage, clock: Clock): Storage {
  let opening: Promise<void> | undefined;
  let late = false;
  const read = patience(clock);
  return {
    // One that is late is waited for again: it may be open by then.
    open: () => inTime((opening ??= storage.open().finally(() => (opening = undefined))), clock),
    get: (key) => read(storage.get(key)),
    range: (from, to) => read(storage.range(from, to)),
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

/** The same vault, with a deadline for every call, and for the turn of what is done alone there: what has not begun by then never does. */
export function timelyVault(vault: Vault, clock: Clock): Vault {
  const call = patience(clock);
  return {
    get: () => call(vault.get()),
    set: (value, erase) => call(vault.set(value, erase)),
    erasing: () => call(vault.erasing()),
    erased: (gone) => call(vault.erased(gone)),
    shared: async () => (vault.shared ? call(vault.shared()) : false),
    exclusive: <T>(work: () => Promise<T>) =>
      new Promise<T>((resolve, reject) => {
        let late = false;
        const turn = new Promise<void>((begun) => {
          const alone = async () => {
            begun();
            return late ? (undefined as T) : work();
          };
          vault.exclusive(alone).then(resolve, reject).then(begun);
        });
        inTime(turn, clock, () => (late = true)).catch(reject);
      }),
  };
}
