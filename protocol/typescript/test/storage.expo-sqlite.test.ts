import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";

import { ExpoSqliteStorage } from "../src/storage/expo-sqlite.js";
import type { Storage } from "../src/storage.js";
import { all, conformance, put } from "./storage.conformance.js";
import { FileDatabase } from "./storage.sqlite.js";

const folder = mkdtempSync(join(tmpdir(), "members-book-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const paths = new WeakMap<Storage, string>();
const databases = new WeakMap<Storage, FileDatabase>();
let count = 0;

function storageAt(path: string): ExpoSqliteStorage {
  const storage: ExpoSqliteStorage = new ExpoSqliteStorage(async () => {
    const database = new FileDatabase(path);
    databases.set(storage, database);
    return database;
  });
  paths.set(storage, path);
  return storage;
}

const fresh = () => storageAt(join(folder, `${count++}.db`));
const database = (storage: Storage) => databases.get(storage) as FileDatabase;

/** Lets statements fail that match: those from `first` to `last`. */
function failing(match: RegExp, first = 1, last = Infinity) {
  return (storage: Storage) => {
    let seen = 0;
    database(storage).before = (sql) => {
      if (match.test(sql) && ++seen >= first && seen <= last) throw new Error("SQLITE_FULL: database or disk is full");
    };
    return () => {
      database(storage).before = undefined;
    };
  };
}

conformance("expo-sqlite", {
  fresh,
  again: (storage) => storageAt(paths.get(storage) ?? ""),
  failures: {
    "at its second batch": failing(/^INSERT/, 2),
    "at a constraint of the database": async (storage) => {
      await database(storage).execAsync("CREATE TRIGGER full BEFORE INSERT ON kv WHEN NEW.key LIKE 'm/%7' BEGIN SELECT RAISE(ABORT, 'no room'); END");
      return () => database(storage).execAsync("DROP TRIGGER full");
    },
    "at its commit": failing(/^COMMIT/),
    "at its commit, and it cannot be rolled back at once": failing(/^(COMMIT|ROLLBACK)/, 1, 2),
    "at its beginning": failing(/^BEGIN/),
  },
});

it("writes ahead, and waits for the disk", async () => {
  const storage = fresh();
  await storage.open();
  expect(await database(storage).getAllAsync("PRAGMA journal_mode", [])).toMatchObject([{ journal_mode: "wal" }]);
  expect(await database(storage).getAllAsync("PRAGMA synchronous", [])).toMatchObject([{ synchronous: 2 }]);
  await storage.close();
});

it("needs few statements for many records, and one for one", async () => {
  const storage = fresh();
  await storage.open();
  const { log } = database(storage);
  log.length = 0;
  await storage.write({ clear: [["a", "b"]], put: new Map(Array.from({ length: 1000 }, (_, i) => [`k${i}`, "v"])) });
  expect(log.map((sql) => sql.split(" ")[0])).toEqual(["BEGIN", "DELETE", "INSERT", "INSERT", "INSERT", "COMMIT"]);
  log.length = 0;
  await storage.write(put({ a: "1", b: "2" }));
  expect(log.length).toBe(1);
  await storage.close();
});

it("does not commit what a failed transaction has left behind", async () => {
  const storage = fresh();
  await storage.open();
  const undo = failing(/^(COMMIT|ROLLBACK)/)(storage);
  await expect(storage.write(put({ a: "1", b: null }))).rejects.toThrow("disk is full");
  // The transaction is still open: one statement alone would be lost with it.
  await expect(storage.write(put({ c: "3" }))).rejects.toThrow();
  undo();
  await storage.write(put({ d: "4" }));
  await storage.close();
  const again = storageAt(paths.get(storage) ?? "");
  await again.open();
  expect(await all(again)).toEqual({ d: "4" });
  await again.close();
});

it("closes only what it has opened, and says what is wrong", async () => {
  const given = new FileDatabase(join(folder, "given.db"));
  const storage = new ExpoSqliteStorage(given);
  await expect(storage.get("a")).rejects.toMatchObject({ code: "storage" });
  await storage.open();
  await storage.open();
  await storage.close();
  expect(given.open).toBe(true);
  await given.closeAsync();

  const opened = fresh();
  await opened.open();
  await opened.close();
  expect(database(opened).open).toBe(false);

  const broken = new ExpoSqliteStorage(() => Promise.reject(new Error("no such folder")));
  await expect(broken.open()).rejects.toThrow("no such folder");
});

it("can be opened again where it could not be, and leaves no database open", async () => {
  const opened: FileDatabase[] = [];
  const storage = new ExpoSqliteStorage(async () => {
    const made = new FileDatabase(join(folder, "locked.db"));
    if (opened.push(made) === 1) made.before = (sql) => {
      if (sql.includes("PRAGMA")) throw new Error("database is locked");
    };
    return made;
  });
  await expect(storage.open()).rejects.toMatchObject({ code: "storage" });
  await storage.open();
  await storage.write(put({ a: "1" }));
  expect(await all(storage)).toEqual({ a: "1" });
  await storage.close();
  expect(opened.map(({ open }) => open)).toEqual([false, false]);
});
