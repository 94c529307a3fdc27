import { expect, it } from "vitest";

import { MemoryStorage, MemoryVault } from "../src/storage/memory.js";
import { conformance } from "./storage.conformance.js";

conformance("memory", { fresh: () => new MemoryStorage(), again: (storage) => storage });

it("runs one piece of work with the vault at a time, in the order of the calls", async () => {
  const vault = new MemoryVault();
  const seen: string[] = [];
  const work = (name: string, fails = false) =>
    vault.exclusive(async () => {
      seen.push(`${name} begins`);
      const value = await vault.get();
      await new Promise((done) => setTimeout(done, 5));
      await vault.set(`${value ?? ""}${name}`);
      seen.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    });
  const [a, b, c] = [work("a"), work("b", true), work("c")];
  expect(await a).toBe("a");
  await expect(b).rejects.toThrow("b");
  expect(await c).toBe("c");
  expect(seen).toEqual(["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
  expect(await vault.get()).toBe("abc");
  await vault.set(null);
  expect(await vault.get()).toBeUndefined();
});
