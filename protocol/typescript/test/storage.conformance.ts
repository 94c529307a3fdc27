import { describe, expect, it } from "vitest";

import type { Changes, Storage } from "../src/storage.js";

type Undo = () => unknown;

/** What the suite needs of a kind of storage. */
export interface Subject {
  /** A storage, not open, that nobody has used. */
  fresh(): Storage;
  /** Another one over what the given one has stored, which is closed. */
  again(storage: Storage): Storage;
  /** Lets the next write fail in the middle, or at its end, in the ways that this kind can fail. */
  failures?: Readonly<Record<string, (storage: Storage) => Undo | Promise<Undo>>>;
}

/** What every storage has to do. */
export function conformance(name: string, subject: Subject): void {
  describe(`storage: ${name}`, () => {
    it("has nothing at first", async () => {
      await using({}, async (storage) => {
        expect(await storage.get("a")).toBeUndefined();
        expect(await storage.range("", "~")).toEqual([]);
      });
    });

    it("orders keys by their characters", async () => {
      const keys = ["b", "a", "a/2", "a/10", "B", "a0", "a.", "_", "~x", "a/", " ", "A"];
      await using(Object.fromEntries(keys.map((key) => [key, key])), async (storage) => {
        const sorted = [...keys].sort();
        expect((await storage.range(" ", "~~")).map(([key]) => key)).toEqual(sorted);
      });
    });

    it("gives ranges without their end", async () => {
      await using({ a: "1", b: "2", c: "3", d: "4", e: "5" }, async (storage) => {
        const keys = async (...args: Parameters<Storage["range"]>) => (await storage.range(...args)).map(([key]) => key).join("");
        expect(await keys("b", "d")).toBe("bc");
        expect(await keys("aa", "dd")).toBe("bcd");
        expect(await keys("a", "z")).toBe("abcde");
        expect(await keys("c", "c")).toBe("");
        expect(await keys("d", "b")).toBe("");
        expect(await keys("x", "z")).toBe("");
        expect(await storage.range("b", "d")).toEqual([["b", "2"], ["c", "3"]]);
      });
    });

    it("replaces, removes with null, and does nothing to what is not there", async () => {
      await using({ a: "1", b: "2" }, async (storage) => {
        await storage.write(put({ a: "new", b: null, c: null }));
        expect(await all(storage)).toEqual({ a: "new" });
        await storage.write({});
        await storage.write(put({}));
        await storage.write({ clear: [["x", "z"], ["b", "a"], ["a", "a"]] });
        expect(await all(storage)).toEqual({ a: "new" });
      });
    });

    it("clears before it puts", async () => {
      await using({ "m/1": "old", "m/2": "old", "n/1": "old", o: "kept" }, async (storage) => {
        await storage.write({ clear: [["m/", "m/~"], ["n/", "n/~"]], put: new Map([["m/2", "new"], ["m/3", "new"]]) });
        expect(await all(storage)).toEqual({ "m/2": "new", "m/3": "new", o: "kept" });
      });
    });

    it("keeps values of any characters, and empty ones", async () => {
      const values: Record<string, string> = {
        empty: "", space: " \t\r\n", quotes: `'"\`\\;--`, percent: "%_?1:a$1@x", umlaut: "äöüß", cjk: "漢字かな交じり文", emoji: "👩‍👩‍👧‍👦🏳️‍🌈", rtl: "שלום مرحبا",
        combining: "e\u0301 \u1e69 s\u0323\u0307", separators: "\u2028\u2029\ufeff\u200b", last: "\uffff\u{10ffff}", json: JSON.stringify({ a: [1, null, "\u0000 \ud800"] }),
        long: "ж".repeat(200_000),
      };
      await using(values, async (storage) => {
        expect(await all(storage)).toEqual(values);
        for (const [key, value] of Object.entries(values)) expect(await storage.get(key)).toBe(value);
      });
    });

    it("takes keys of 200 characters", async () => {
      const key = "k".repeat(199);
      await using({ [`${key}a`]: "1", [`${key}b`]: "2" }, async (storage) => {
        expect(await storage.range(`${key}a`, `${key}b`)).toEqual([[`${key}a`, "1"]]);
      });
    });

    it("has everything when it is opened again", async () => {
      const storage = subject.fresh();
      await storage.open();
      await storage.write(put({ a: "1", b: "2", c: "3" }));
      // Not waited for: what was written before `close` is kept.
      const written = storage.write({ clear: [["b", "c"]], put: new Map([["d", "4"], ["c", null]]) });
      await storage.close();
      await written;
      const reopened = subject.again(storage);
      await reopened.open();
      expect(await all(reopened)).toEqual({ a: "1", d: "4" });
      await reopened.close();
    });

    it("lets overlapping writes take effect in the order of the calls", async () => {
      await using({}, async (storage) => {
        const writes: Promise<void>[] = [];
        for (let i = 0; i < 200; i++) {
          if (i % 50 === 49) writes.push(storage.write({ clear: [["only/", "only/~"]] }));
          writes.push(storage.write(put({ last: String(i), [`only/${i}`]: "x", ...(i % 3 === 0 ? { third: null } : { third: String(i) }) })));
        }
        // A read sees everything that was written before it.
        const last = storage.get("last");
        const third = storage.get("third");
        const only = storage.range("only/", "only/~");
        writes.push(storage.write(put({ last: "after" })));
        expect(await last).toBe("199");
        expect(await third).toBe("199");
        expect((await only).map(([key]) => key)).toEqual(["only/199"]);
        await Promise.all(writes);
        expect(await storage.get("last")).toBe("after");
      });
    });

    it("writes what was asked for, whatever becomes of the map", async () => {
      await using({}, async (storage) => {
        const first = storage.write(put({ a: "0" }));
        const map = new Map<string, string | null>([["a", "1"], ["b", "1"]]);
        const second = storage.write({ put: map });
        map.set("a", "2").delete("b");
        await Promise.all([first, second]);
        expect(await all(storage)).toEqual({ a: "1", b: "1" });
      });
    });

    it("changes nothing when the changes cannot be read to their end", async () => {
      await using({ a: "1", b: "2" }, async (storage) => {
        class Broken extends Map<string, string | null> {
          override *[Symbol.iterator](): MapIterator<[string, string | null]> {
            yield ["a", "changed"];
            throw new Error("no more");
          }
        }
        await expect(storage.write({ clear: [["b", "c"]], put: new Broken() })).rejects.toThrow("no more");
        expect(await all(storage)).toEqual({ a: "1", b: "2" });
      });
    });

    for (const [what, fail] of Object.entries(subject.failures ?? {})) {
      it(`changes nothing when a write fails: ${what}`, async () => {
        await using({ a: "1", b: "2", z: "9" }, async (storage) => {
          const many = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`m/${String(i).padStart(4, "0")}`, "x"]));
          const undo = await fail(storage);
          const before = storage.get("a");
          const failing = storage.write({ clear: [["b", "c"]], put: new Map(Object.entries({ a: "changed", ...many, z: null })) });
          await expect(failing).rejects.toMatchObject({ code: "storage", verdict: "retry" });
          expect(await before).toBe("1");
          await undo();
          expect(await all(storage)).toEqual({ a: "1", b: "2", z: "9" });
          // The same and others may be made later.
          await storage.write(put({ a: "later" }));
          await storage.write({ clear: [["b", "c"]], put: new Map(Object.entries({ ...many, z: null })) });
          expect(await all(storage)).toEqual({ a: "later", ...many });
        });
      });

      it(`does what comes after a write that fails: ${what}`, async () => {
        await using({ a: "1" }, async (storage) => {
          const undo = await fail(storage);
          const failing = storage.write({ clear: [["a", "b"]], put: new Map(Array.from({ length: 1000 }, (_, i) => [`m/${i}`, "x"])) });
          const read = storage.get("a");
          await expect(failing).rejects.toThrow();
          expect(await read).toBe("1");
          await undo();
          const next = storage.write(put({ a: "2" }));
          expect(await storage.get("a")).toBe("2");
          await next;
        });
      });
    }

    it("takes 10,000 records", async () => {
      await using({}, async (storage) => {
        const key = (i: number) => `e/${String(i).padStart(16, "0")}`;
        for (let start = 0; start < 10_000; start += 2500) {
          await storage.write({ put: new Map(Array.from({ length: 2500 }, (_, i) => [key(start + i), JSON.stringify({ seq: start + i, content: "x".repeat(100) })])) });
        }
        const found = await storage.range("e/", "e/~");
        expect(found.length).toBe(10_000);
        expect(found.every(([k], i) => k === key(i))).toBe(true);
        expect((await storage.range(key(5000), key(5100))).length).toBe(100);
        await storage.write({ clear: [[key(100), key(9900)]], put: new Map(Array.from({ length: 100 }, (_, i) => [key(i), i % 2 ? null : "y"])) });
        expect((await storage.range("e/", "e/~")).length).toBe(150);
      });
    });

    async function using(values: Readonly<Record<string, string>>, work: (storage: Storage) => Promise<void>): Promise<void> {
      const storage = subject.fresh();
      await storage.open();
      await storage.write(put(values));
      await work(storage);
      await storage.close();
    }
  });
}

export function put(values: Readonly<Record<string, string | null>>): Changes {
  return { put: new Map(Object.entries(values)) };
}

export async function all(storage: Storage): Promise<Record<string, string>> {
  return Object.fromEntries(await storage.range("", "~~"));
}
