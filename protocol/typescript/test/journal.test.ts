import { expect, test } from "vitest";

import { platformEnvironment } from "../src/environment.js";
import { Journal, OwnPages } from "../src/journal.js";
import { MemoryStorage } from "../src/storage/memory.js";
import { Value } from "../src/value.js";

const { clock } = platformEnvironment();

test("what was removed and put, and is not stored, is read as if it were", async () => {
  const storage = new MemoryStorage();
  await storage.write({ put: new Map(["a", "b", "c", "d"].map((key) => [key, key])) });
  storage.write = () => Promise.reject(new Error("no room"));
  const journal = new Journal(storage, clock, () => undefined);
  journal.clear("a", "c");
  journal.put("b", "new");
  journal.put("d", null);
  await journal.attempted();
  // What has failed is kept, and what comes now is after it.
  journal.put("aa", "new");
  journal.clear("b", "bb");
  expect((await journal.range("a", "z")).map(([key]) => key)).toEqual(["aa", "c"]);
  await journal.close();
});

test("what changes while the storage looks is in what is read, whatever becomes of the write meanwhile", async () => {
  const storage = new MemoryStorage();
  let look = (): void => undefined;
  storage.range = () => new Promise((resolve) => (look = () => resolve([["a", "old"], ["b", "old"]])));
  const refused = new Promise<() => void>((called) => (storage.write = () => new Promise((_, reject) => called(() => reject(new Error("no room"))))));
  const journal = new Journal(storage, clock, () => undefined);
  journal.put("a", "1");
  const refuse = await refused;
  const tried = journal.attempted();
  const found = journal.range("a", "z");
  journal.put("b", null);
  refuse();
  await tried;
  journal.put("a", null);
  journal.put("c", "2");
  look();
  expect(await found).toEqual([["c", "2"]]);
  storage.write = () => Promise.resolve();
  await journal.close();
});

test("what a sign-in had to write is written, and nothing of it once it has ended", async () => {
  const storage = new MemoryStorage();
  const journal = new Journal(storage, clock, () => undefined);
  const pages = new OwnPages(journal);
  pages.put("a", "1");
  pages.end();
  pages.put("a", "2");
  pages.put("b", "2");
  pages.clear("a", "z");
  await pages.stored();
  expect(await pages.range("a", "z")).toEqual([["a", "1"]]);
  await journal.close();
});

test("who watches a value that becomes another one, and that a third, is told what that is", () => {
  const [first, second, third] = [new Value(1), new Value(2), new Value(3)];
  let told = 0;
  const unsubscribe = first.subscribe(() => (told += 1));
  first.become(second);
  second.become(third);
  told = 0;
  third.set(4);
  expect([told, first.getSnapshot(), third.watched]).toEqual([1, 4, true]);
  unsubscribe();
  third.set(5);
  expect([told, third.watched]).toEqual([1, false]);
});
