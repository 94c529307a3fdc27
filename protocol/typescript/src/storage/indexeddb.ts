import { copied, failed } from "./changes.js";
import { inTime } from "./deadline.js";
import { Queue } from "./queue.js";
import type { Changes, Storage } from "../storage.js";

const STORE = "kv";
const VERSION = 1;
/** Some browsers never answer, after a crash or at their start: this is how long an answer is waited for. */
const OPEN_TIMEOUT_MS = 10_000;
const UNANSWERED = { unanswered: true };

/** An `IDBFactory`: `indexedDB` of the platform, or another one. Its type is not named, so that nobody needs the types of the DOM. */
export interface DatabaseFactory {
  open(name: string, version?: number): object;
  deleteDatabase(name: string): object;
}

export interface IndexedDbOptions {
  /** Where databases are. That of the platform, if not given. */
  readonly factory?: DatabaseFactory;
  /**
   * Others use the database as well, so it does not matter if it was deleted and begun anew meanwhile. Without it a database that has vanished while it was used
   * stays closed: new changes alone would look like everything that there is.
   */
  readonly shared?: boolean;
}

/**
 * A storage in IndexedDB: one database with one object store, keys and values are strings. Every change is on the disk when it resolves, where the browser can do that (`durability: "strict"`).
 *
 * Browsers cut connections: Safari in the background, every one of them when the data of the site is deleted. The next call opens it again.
 */
export class IndexedDbStorage implements Storage {
  private readonly turns = new Queue();
  private readonly factory: IDBFactory;
  private readonly shared: boolean;
  private db: IDBDatabase | undefined;
  /** It was there once, so it has to be there again. */
  private known = false;
  private closed = false;

  constructor(readonly name: string, options: IndexedDbOptions = {}) {
    this.factory = (options.factory as IDBFactory | undefined) ?? globalThis.indexedDB;
    this.shared = options.shared ?? false;
  }

  /** May be called again: does nothing then. */
  open(): Promise<void> {
    return this.turns.run(async () => {
      if (this.closed) this.known = this.closed = false;
      await this.connected();
    });
  }

  get(key: string): Promise<string | undefined> {
    return this.transaction("readonly", (store) => {
      const request = store.get(key) as IDBRequest<string | undefined>;
      return () => request.result;
    });
  }

  range(from: string, to: string): Promise<[string, string][]> {
    if (from >= to) return Promise.resolve([]);
    return this.transaction("readonly", (store) => {
      const range = IDBKeyRange.bound(from, to, false, true);
      const keys = store.getAllKeys(range) as IDBRequest<string[]>;
      const values = store.getAll(range) as IDBRequest<string[]>;
      return () => keys.result.map((key, i): [string, string] => [key, values.result[i] ?? ""]);
    });
  }

  async write(changes: Changes): Promise<void> {
    const { clear, put } = copied(changes);
    if (clear.length + put.length === 0) return;
    return this.transaction("readwrite", (store, transaction) => {
      for (const [from, to] of clear) store.delete(IDBKeyRange.bound(from, to, false, true));
      for (const [key, value] of put) {
        if (value === null) store.delete(key);
        else store.put(value, key);
      }
      transaction.commit?.();
      return () => undefined;
    });
  }

  /**
   * Changes one value while nobody else changes it, in no other tab either. `change` says what becomes of it: `null` removes, `undefined` leaves it.
   * Resolves with the value that is there then.
   */
  update(key: string, change: (value: string | undefined) => string | null | undefined): Promise<string | undefined> {
    return this.transaction("readwrite", (store, transaction) => {
      let value: string | undefined;
      let thrown: { error: unknown } | undefined;
      const request = store.get(key) as IDBRequest<string | undefined>;
      request.onsuccess = () => {
        try {
          value = request.result;
          const changed = change(value);
          if (changed === undefined) return;
          value = changed ?? undefined;
          if (changed === null) store.delete(key);
          else store.put(changed, key);
        } catch (error) {
          thrown = { error };
          transaction.commit?.();
        }
      };
      return () => {
        if (thrown) throw thrown.error;
        return value;
      };
    });
  }

  close(): Promise<void> {
    return this.turns.run(async () => {
      this.closed = true;
      this.db?.close();
      this.db = undefined;
    });
  }

  /** One transaction. `work` makes the requests, and returns what reads their results when they are through. */
  private transaction<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore, transaction: IDBTransaction) => () => T): Promise<T> {
    return this.turns.run(async () => {
      try {
        return await this.attempt(mode, work);
      } catch (error) {
        if (!isCut(error)) throw error instanceof DOMException ? failed("Nothing was changed.", error) : error;
      }
      // Whether it was through is not known. The same again is harmless: nothing else was written since.
      this.db?.close();
      this.db = undefined;
      try {
        return await this.attempt(mode, work);
      } catch (error) {
        throw error instanceof DOMException ? failed("The database of the browser does not work.", error) : error;
      }
    });
  }

  private async attempt<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore, transaction: IDBTransaction) => () => T): Promise<T> {
    const db = await this.connected();
    const transaction = db.transaction(STORE, mode, { durability: "strict" });
    const answer = new Promise<T>((resolve, reject) => {
      let read: (() => T) | undefined;
      let thrown: unknown;
      transaction.oncomplete = () => {
        try {
          if (read) resolve(read());
        } catch (error) {
          reject(error as Error);
        }
      };
      transaction.onabort = () => reject((thrown ?? transaction.error ?? new DOMException("The transaction was aborted.", "AbortError")) as Error);
      try {
        read = work(transaction.objectStore(STORE), transaction);
      } catch (error) {
        thrown = error;
        transaction.abort();
      }
    });
    return inTime(answer, globalThis, () => {
      try {
        transaction.abort();
      } catch {
        // It is being committed, and may be yet: the browser makes those that come later wait for it, on another connection, too.
      }
      db.close();
      if (this.db === db) this.db = undefined;
    });
  }

  private async connected(): Promise<IDBDatabase> {
    if (this.closed) throw failed("The storage is closed.");
    if (this.db) return this.db;
    const db = await this.connect();
    const drop = () => {
      if (this.db === db) this.db = undefined;
    };
    // Somebody deletes it, or a newer version of the app changes its form: nobody has to wait for this tab.
    db.onversionchange = () => {
      db.close();
      drop();
    };
    db.onclose = drop;
    this.db = db;
    this.known = true;
    return db;
  }

  private connect(): Promise<IDBDatabase> {
    return new Promise((resolve, reject) => {
      const request = this.factory.open(this.name, VERSION);
      let vanished = false;
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        reject(Object.assign(failed("The database of the browser did not open in time."), UNANSWERED));
      }, OPEN_TIMEOUT_MS);
      request.onupgradeneeded = () => {
        vanished = this.known && !this.shared;
        if (vanished) request.transaction?.abort();
        else request.result.createObjectStore(STORE);
      };
      request.onsuccess = () => {
        clearTimeout(timer);
        if (late) request.result.close();
        else resolve(request.result);
      };
      request.onerror = () => {
        clearTimeout(timer);
        reject(failed(vanished ? "The database was deleted while it was used." : "The database of the browser could not be opened.", request.error));
      };
    });
  }
}

/** Deletes a database. Those who use it let go of it. */
export function deleteDatabase(name: string, factory?: DatabaseFactory): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = ((factory as IDBFactory | undefined) ?? globalThis.indexedDB).deleteDatabase(name);
    const timer = setTimeout(() => reject(failed("The database was not deleted in time.")), OPEN_TIMEOUT_MS);
    request.onsuccess = () => {
      clearTimeout(timer);
      resolve();
    };
    request.onerror = () => {
      clearTimeout(timer);
      reject(failed("The database was not deleted.", request.error));
    };
  });
}

/** Whether it did not open because the browser did not answer: it may at the next attempt. */
export function isUnanswered(error: unknown): boolean {
  return (error as Partial<typeof UNANSWERED> | undefined)?.unanswered === true;
}

/** Whether it is not the change that is at fault, but the connection: a transaction that was ended by nobody here, or could not begin. */
function isCut(error: unknown): boolean {
  return error instanceof DOMException && (error.name === "AbortError" || error.name === "InvalidStateError" || error.name === "UnknownError");
}
