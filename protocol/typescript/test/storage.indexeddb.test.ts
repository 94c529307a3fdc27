import "fake-indexeddb/auto";
import { forceCloseDatabase } from "fake-indexeddb";
import { expect, it, vi } from "vitest";

import { deleteDatabase, IndexedDbStorage } from "../src/storage/indexeddb.js";
import type { Storage } from "../src/storage.js";
import { all, conformance, put } from "./storage.conformance.js";

const names = new WeakMap<Storage, string>();
let count = 0;

function storageAt(name: string): IndexedDbStorage {
  const storage = new IndexedDbStorage(name);
  names.set(storage, name);
  return storage;
}

const fresh = () => storageAt(`test-${count++}`);

conformance("IndexedDB", {
  fresh,
  again: (storage) => storageAt(names.get(storage) ?? ""),
  failures: {
    "there is no room for a record": () => {
      let puts = 0;
      const real = IDBObjectStore.prototype.put;
      const spy = vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(function (this: IDBObjectStore, value: unknown, key?: IDBValidKey) {
        if (++puts === 500) throw new DOMException("The quota has been exceeded.", "QuotaExceededError");
        return real.call(this, value, key);
      });
      return () => spy.mockRestore();
    },
    "it is aborted by the browser at its end": () => {
      const spy = vi.spyOn(IDBTransaction.prototype, "commit").mockImplementation(function (this: IDBTransaction) {
        this.abort();
      });
      return () => spy.mockRestore();
    },
    "a value cannot be stored": () => {
      const real = IDBObjectStore.prototype.put;
      const spy = vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(function (this: IDBObjectStore, value: unknown, key?: IDBValidKey) {
        return real.call(this, key === "m/0700" || key === "m/700" ? () => value : value, key);
      });
      return () => spy.mockRestore();
    },
  },
});

it("opens again when the browser has cut the connection", async () => {
  const opened: IDBOpenDBRequest[] = [];
  const factory = {
    open: (name: string, version?: number) => {
      const request = indexedDB.open(name, version);
      opened.push(request);
      return request;
    },
    deleteDatabase: (name: string) => indexedDB.deleteDatabase(name),
  };
  /** The connection that the storage has. */
  const connection = () => opened.at(-1)?.result as IDBDatabase;
  const storage = new IndexedDbStorage(`test-${count++}`, { factory });
  await storage.open();
  await storage.write(put({ a: "1" }));
  forceCloseDatabase(connection() as unknown as Parameters<typeof forceCloseDatabase>[0]);
  expect(await storage.get("a")).toBe("1");
  // The event has not come: the transaction cannot begin.
  connection().close();
  await storage.write(put({ b: "2" }));
  connection().close();
  const writes = [storage.write(put({ c: "3" })), storage.write(put({ c: "4", d: null })), storage.range("a", "z")] as const;
  expect(await writes[2]).toEqual([["a", "1"], ["b", "2"], ["c", "4"]]);
  await storage.close();
});

it("lets a deletion pass, and does not begin anew behind the back of who uses it", async () => {
  const storage = fresh();
  await storage.open();
  await storage.write(put({ a: "1", b: "2" }));
  await deleteDatabase(storage.name);
  await expect(storage.write(put({ c: "3" }))).rejects.toMatchObject({ code: "storage", message: expect.stringContaining("deleted") });
  await expect(storage.get("a")).rejects.toMatchObject({ code: "storage" });
  await storage.close();
  // The next one begins with nothing.
  const next = storageAt(storage.name);
  await next.open();
  expect(await all(next)).toEqual({});
  await next.close();
});

it("begins anew if it is shared", async () => {
  const storage = new IndexedDbStorage("shared", { shared: true });
  await storage.open();
  await storage.write(put({ a: "1" }));
  await deleteDatabase("shared");
  expect(await storage.get("a")).toBeUndefined();
  await storage.write(put({ b: "2" }));
  expect(await all(storage)).toEqual({ b: "2" });
  await storage.close();
});

it("changes one value with nobody in between", async () => {
  const [one, two] = [new IndexedDbStorage("counter"), new IndexedDbStorage("counter")];
  await Promise.all([one.open(), two.open()]);
  const more = (value: string | undefined) => String(Number(value ?? 0) + 1);
  await Promise.all(Array.from({ length: 100 }, (_, i) => (i % 2 ? one : two).update("n", more)));
  expect(await one.get("n")).toBe("100");
  expect(await one.update("n", () => undefined)).toBe("100");
  await expect(one.update("n", () => { throw new Error("no"); })).rejects.toThrow("no");
  expect(await two.get("n")).toBe("100");
  expect(await one.update("n", () => null)).toBeUndefined();
  expect(await two.get("n")).toBeUndefined();
  await Promise.all([one.close(), two.close()]);
});

it("says why it cannot be opened", async () => {
  const factory = { open: () => { throw new DOMException("denied", "SecurityError"); } } as unknown as IDBFactory;
  await expect(new IndexedDbStorage("x", { factory }).open()).rejects.toThrow("denied");
  // A version that is to come uses it.
  await new Promise((done) => { indexedDB.open("later", 9).onsuccess = (event) => { (event.target as IDBOpenDBRequest).result.close(); done(undefined); }; });
  await expect(new IndexedDbStorage("later").open()).rejects.toMatchObject({ code: "storage" });
  const closed = fresh();
  await closed.open();
  await closed.close();
  await expect(closed.get("a")).rejects.toMatchObject({ code: "storage" });
});

it("gives a transaction up that never answers, and goes on with another connection", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const storage = fresh();
    await storage.open();
    await storage.write(put({ a: "1" }));
    const spy = vi.spyOn(IDBDatabase.prototype, "transaction").mockImplementationOnce(() => {
      const store = { put: () => undefined, delete: () => undefined };
      return { objectStore: () => store, commit: () => undefined, abort: () => { throw new DOMException("It is being committed.", "InvalidStateError"); } } as unknown as IDBTransaction;
    });
    const hangs = storage.write(put({ b: "2" })).then(() => "done", (error: { code: string }) => error.code);
    const next = storage.write(put({ c: "3" }));
    await vi.waitFor(() => expect(spy).toHaveBeenCalledOnce());
    await vi.advanceTimersByTimeAsync(20_000);
    expect(await hangs).toBe("storage");
    await next;
    expect(await all(storage)).toEqual({ a: "1", c: "3" });
    await storage.close();
    spy.mockRestore();
  } finally {
    vi.useRealTimers();
  }
});
