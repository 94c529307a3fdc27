import type { Storage } from "../storage.js";

/** The same storage, with something to do before and after it is closed. */
export function closing(storage: Storage, before: () => Promise<void> | void, after: () => void = () => undefined): Storage {
  return {
    open: () => storage.open(),
    get: (key) => storage.get(key),
    range: (from, to) => storage.range(from, to),
    write: (changes) => storage.write(changes),
    close: async () => {
      try {
        await before();
        await storage.close();
      } finally {
        after();
      }
    },
  };
}
