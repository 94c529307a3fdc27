import { expect, test } from "vitest";

import { platformEnvironment } from "../src/environment.js";
import { Journal, OwnPages } from "../src/journal.js";
import { MemoryStorage } from "../src/storage/memory.js";
import { Value } from "../src/value.js";

const { clock } = platformEnvironment();

test("as many as asked for are read, whatever was removed and is not stored", async () => {
  const storage = new MemoryStorage();
  await storage.write({ put: new Map(["a", "b", "c", "d"].map((key) => [key, key])) });
  storage.write = () => Promise.reject(new Error("no room"));
  const journal = new Journal(storage, clock, () => undefined);
  journal.clear("a", "c");
  await journal.attempted();
  expect((await journal.range("a", "z", { limit: 2 })).map(([key]) => key)).toEqual(["c", "d"]);
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
