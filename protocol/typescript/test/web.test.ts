import "fake-indexeddb/auto";
import { describe, expect, it } from "vitest";

import type { Storage } from "../src/storage.js";
import { Browser, until } from "./web.browser.js";

const MEMBER = "a".repeat(24);
const OTHER = "b".repeat(24);

/** Messages that a tab has not sent. */
const unsent = (storage: Storage, ...messages: string[]) =>
  storage.write({ put: new Map(messages.map((message, i) => [`${MEMBER}/o/${String(i).padStart(16, "0")}`, message])) });

const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

describe("slots", () => {
  it("gives each tab its own, and the one of a closed tab to the next", async () => {
    const browser = new Browser();
    const [a, b, c] = [await browser.open(), await browser.open(), await browser.open()];
    expect([a.slot, b.slot, c.slot]).toEqual(["0", "1", "2"]);
    await b.storage.write({ put: new Map([["device", "b"]]) });
    b.kill();
    // Others look whether it is free.
    await wait(50);
    const d = await browser.open();
    expect(d.slot).toBe("1");
    expect(await d.storage.get("device")).toBe("b");
    expect(await a.storage.get("device")).toBeUndefined();
  });

  it("gives tabs that open at the same time different ones", async () => {
    const browser = new Browser();
    const tabs = await Promise.all(Array.from({ length: 12 }, () => browser.open()));
    expect(tabs.map((tab) => Number(tab.slot)).sort((x, y) => x - y)).toEqual([...tabs.keys()]);
  });

  it("gives a tab that is reloaded the one that it had, though others wait for it", async () => {
    const browser = new Browser({ times: 10 });
    const [a, b, c] = [await browser.open(), await browser.open(), await browser.open()];
    await unsent(c.storage, "hello");
    await until(() => browser.locks.queued("members-book:test:slot-2") === 2);
    for (let i = 0; i < 3; i++) {
      const before = c.session;
      c.kill();
      await wait(10);
      const again = await browser.open(before);
      expect(again.slot).toBe("2");
      Object.assign(c, again);
    }
    await wait(150);
    expect([...a.client.adopted, ...b.client.adopted]).toEqual([]);
    expect((await c.storage.range(`${MEMBER}/o/`, `${MEMBER}/o/~`)).length).toBe(1);
  });

  it("gives a duplicated tab another one", async () => {
    const browser = new Browser();
    const a = await browser.open();
    const copy = await browser.open(new Map(a.session));
    expect([a.slot, copy.slot]).toEqual(["0", "1"]);
    expect(copy.session.get("members-book:test:slot")).toBe("1");
  });

  it("is given back when the client stops", async () => {
    const browser = new Browser();
    const a = await browser.open();
    await a.storage.close();
    await until(() => browser.locks.holder("members-book:test:slot-0") === undefined);
    expect((await browser.open()).slot).toBe("0");
  });

  it("is none when there are too many tabs", async () => {
    const browser = new Browser();
    const tabs = await Promise.all(Array.from({ length: 32 }, () => browser.open()));
    const last = await browser.open();
    expect(last.slot).toBeUndefined();
    expect(last.debug).toContain("tab: storage in memory");
    await tabs[0]?.vault.set("tokens");
    expect(await last.vault.get()).toBe("tokens");
  });

  it("keeps everything in memory where there is no IndexedDB, or none that works", async () => {
    const broken = { open: () => { throw new DOMException("no", "SecurityError"); } } as unknown as IDBFactory;
    for (const browser of [new Browser({ indexedDB: false }), new Browser()]) {
      const tab = await browser.open(undefined, browser.indexedDB ? { indexedDB: broken } : {});
      expect(tab.slot).toBeUndefined();
      expect(tab.debug).toEqual(["tab: storage in memory"]);
      await tab.storage.open();
      await tab.storage.write({ put: new Map([["a", "1"]]) });
      expect(await tab.storage.get("a")).toBe("1");
      expect(await tab.vault.exclusive(async () => { await tab.vault.set("t"); return tab.vault.get(); })).toBe("t");
      await tab.storage.close();
    }
  });

  it("goes by ids where the locks are denied", async () => {
    const denied = { request: () => Promise.reject(new DOMException("no", "SecurityError")) };
    const tab = await new Browser().open(undefined, { locks: denied });
    expect(tab.slot).toMatch(/^s-/);
    expect(tab.debug).toEqual(["tab: no locks"]);
  });
});

describe("the vault", () => {
  for (const [what, host] of [["locks", {}], ["no locks", { locks: undefined }]] as const) {
    it(`is shared as long as another tab lives, with ${what}`, async () => {
      const browser = new Browser();
      const [a, b] = [await browser.open(undefined, host), await browser.open(undefined, host)];
      expect(await a.vault.shared?.()).toBe(true);
      await b.storage.close();
      // Without locks a tab is known to be gone only after minutes.
      if (what === "locks") await until(async () => (await a.vault.shared?.()) === false);
    });
  }

  for (const locks of [true, false]) {
    it(`is used by one tab at a time, ${locks ? "by locks" : "by a lease"}`, async () => {
      const browser = new Browser({ locks });
      const tabs = await Promise.all(Array.from({ length: 4 }, () => browser.open()));
      let inside = 0;
      let most = 0;
      const work = tabs.flatMap((tab) =>
        Array.from({ length: 3 }, () =>
          tab.vault.exclusive(async () => {
            most = Math.max(most, ++inside);
            const value = Number((await tab.vault.get()) ?? 0);
            await wait(3);
            await tab.vault.set(String(value + 1));
            inside--;
          }),
        ),
      );
      await Promise.all(work);
      expect(most).toBe(1);
      expect(await tabs[0]?.vault.get()).toBe("12");
      await expect(tabs[0]?.vault.exclusive(() => Promise.reject(new Error("refused")))).rejects.toThrow("refused");
      expect(await tabs[1]?.vault.exclusive(async () => "free")).toBe("free");
    });

    it(`is free again when its tab dies, ${locks ? "by locks" : "by a lease"}`, async () => {
      const browser = new Browser({ locks });
      const [a, b] = [await browser.open(), await browser.open()];
      let inside = false;
      void a.vault.exclusive(() => { inside = true; return new Promise<never>(() => undefined); });
      await until(() => inside);
      let got = false;
      const next = b.vault.exclusive(async () => { got = true; });
      // Longer than a lease: it is renewed as long as the tab lives.
      await wait(700);
      expect(got).toBe(false);
      a.kill();
      await next;
      expect(got).toBe(true);
    });
  }

  it("tells the other tabs when it has changed, and they sign out", async () => {
    const browser = new Browser();
    const [a, b, c] = [await browser.open(), await browser.open(), await browser.open()];
    await a.vault.set("tokens");
    await until(() => b.client.calls.includes("check") && c.client.calls.includes("check"));
    expect(b.client.session.getSnapshot().status).toBe("signed_in");
    expect(a.client.calls).not.toContain("check");
    await a.vault.set(null);
    await until(() => [b, c].every(({ client }) => client.session.getSnapshot().status === "signed_out"));
  });
});

describe("what closed tabs have left", () => {
  it("is adopted by a tab that lives, in its order, once", async () => {
    const browser = new Browser();
    const [a, b, c] = [await browser.open(), await browser.open(), await browser.open()];
    await unsent(c.storage, "1", "2", "3");
    c.kill();
    await until(() => a.client.adopted.length + b.client.adopted.length > 0);
    await wait(200);
    expect([...a.client.adopted, ...b.client.adopted]).toEqual(["1", "2", "3"]);
    const next = await browser.open();
    expect(next.slot).toBe("2");
    expect(await next.storage.range(`${MEMBER}/o/`, `${MEMBER}/o/~`)).toEqual([]);
  });

  it("is adopted at the next start, slot by slot, and the slots are free for others meanwhile", async () => {
    const browser = new Browser();
    const tabs = await Promise.all(Array.from({ length: 12 }, () => browser.open()));
    tabs.sort((x, y) => Number(x.slot) - Number(y.slot));
    for (const tab of tabs) if (tab.slot !== "0") await unsent(tab.storage, `${tab.slot}/1`, `${tab.slot}/2`);
    for (const tab of [...tabs].reverse()) tab.kill();
    await wait(30);
    const next = await browser.open();
    expect(next.slot).toBe("0");
    await until(() => next.client.adopted.length === 22);
    expect(next.client.adopted).toEqual(Array.from({ length: 11 }, (_, i) => [`${i + 1}/1`, `${i + 1}/2`]).flat());
  });

  it("is adopted of tabs that were opened later, too", async () => {
    const browser = new Browser();
    const a = await browser.open();
    await wait(100);
    for (const message of ["first", "second"]) {
      const b = await browser.open();
      expect(b.slot).toBe("1");
      await unsent(b.storage, message);
      b.kill();
      await until(() => a.client.adopted.includes(message));
    }
  });

  it("is tried again when it failed, and nothing is lost", async () => {
    const browser = new Browser();
    const [a, b] = [await browser.open(), await browser.open()];
    a.client.failures = 2;
    await unsent(b.storage, "1", "2");
    b.kill();
    await until(() => a.client.adopted.length === 2);
    expect(a.debug.filter((what) => what === "tab: slot not adopted").length).toBe(2);
  });

  it("does not hold anything up when it cannot be kept", async () => {
    const browser = new Browser();
    const [a, b] = [await browser.open(), await browser.open()];
    a.client.stuck = true;
    await unsent(b.storage, "1");
    b.kill();
    // The slot is given back, and there is another attempt.
    await until(() => a.debug.includes("tab: slot not adopted"));
    await until(() => a.client.adopted.length === 1);
    // Nor when the client stops meanwhile.
    const c = await browser.open();
    a.client.stuck = true;
    await unsent(c.storage, "2");
    c.kill();
    await until(() => !a.client.stuck);
    await a.storage.close();
    await until(() => browser.locks.holder("members-book:test:slot-0") === undefined);
    const next = await browser.open();
    await until(() => next.client.adopted.length === 1);
    expect(next.client.adopted).toEqual(["2"]);
  });

  it("waits for its member when nobody is signed in", async () => {
    const browser = new Browser();
    const [a, b] = [await browser.open(), await browser.open()];
    a.client.session.set({ status: "signed_out", reason: "session_over" });
    await unsent(b.storage, "1");
    b.kill();
    await wait(150);
    a.client.signIn(OTHER);
    await wait(150);
    expect(a.client.adopted).toEqual([]);
    a.client.signIn(MEMBER);
    await until(() => a.client.adopted.length === 1);
  });

  it("is erased when its member has logged out, and what is of others stays", async () => {
    const browser = new Browser();
    const [a, b] = [await browser.open(), await browser.open()];
    await a.vault.set("tokens");
    await unsent(b.storage, "1");
    await b.storage.write({ put: new Map([["device", "id"], [`${OTHER}/o/1`, "theirs"], [`${MEMBER}/c/x`, "secret"]]) });
    b.kill();
    a.client.session.set({ status: "signed_out", reason: "logged_out" });
    await a.vault.set(null, MEMBER);
    await until(() => a.debug.includes("tab: erased what had to go"));
    const next = await browser.open();
    expect(await next.storage.range("", "~")).toEqual([[`${OTHER}/o/1`, "theirs"], ["device", "id"]]);
    expect(await next.vault.erasing()).toEqual([]);
    expect(a.client.adopted).toEqual([]);
  });

  it("is erased by the next tab when the browser was closed right after the log-out, and that of each slot is noted for itself", async () => {
    const browser = new Browser();
    const [a, b] = [await browser.open(), await browser.open()];
    for (const tab of [a, b]) await tab.storage.write({ put: new Map([[`${MEMBER}/c/x`, "secret"], [`${MEMBER}/o/1`, "unsent"]]) });
    b.kill();
    await a.vault.set(null, MEMBER);
    a.kill();
    const next = await browser.open();
    expect(next.slot).toBe("0");
    expect(await next.vault.erasing()).toEqual([MEMBER]);
    // Somebody else signs in at once: what is noted is done all the same, and not for them.
    next.client.signIn(OTHER);
    await until(() => next.debug.includes("tab: erased what had to go"));
    const second = await browser.open();
    expect(second.slot).toBe("1");
    expect(await second.storage.range("", "~")).toEqual([]);
    expect(await next.vault.erasing()).toEqual([MEMBER]);
    await next.vault.erased([MEMBER]);
    expect(await next.vault.erasing()).toEqual([]);
  });

  it("keeps what was not sent, when the session was over", async () => {
    const browser = new Browser();
    const [a, b] = [await browser.open(), await browser.open()];
    a.client.session.set({ status: "signed_out", reason: "session_over" });
    await unsent(b.storage, "1");
    await b.storage.write({ put: new Map([[`${MEMBER}/c/x`, "secret"], [`${MEMBER}/p/x`, "secret"]]) });
    b.kill();
    await a.vault.set("over", `${MEMBER}-sent`);
    a.client.session.set({ status: "signed_out" });
    await until(() => a.debug.includes("tab: erased what had to go"));
    const next = await browser.open();
    expect((await next.storage.range("", "~")).map(([, value]) => value)).toEqual(["1"]);
  });

  it("is not touched after the client has stopped", async () => {
    const browser = new Browser();
    const [a, b] = [await browser.open(), await browser.open()];
    await unsent(b.storage, "1");
    await a.storage.close();
    b.kill();
    await wait(150);
    expect(a.client.adopted).toEqual([]);
    const calls = a.client.calls.length;
    a.window.dispatchEvent(new Event("online"));
    a.document.dispatchEvent(new Event("visibilitychange"));
    expect(a.client.calls.length).toBe(calls);
  });
});

describe("without locks", () => {
  it("gives a reloaded tab its slot, and a duplicated one another", async () => {
    const browser = new Browser({ locks: false });
    const a = await browser.open();
    const copy = await browser.open(new Map(a.session));
    expect(copy.slot).not.toBe(a.slot);
    a.kill();
    const again = await browser.open(new Map(a.session));
    expect(again.slot).toBe(a.slot);
  });

  it("adopts what a tab has left that gives no sign of life, and not what one has that slept as well", async () => {
    const browser = new Browser({ locks: false });
    const [a, b] = [await browser.open(), await browser.open()];
    await unsent(a.storage, "of a");
    await unsent(b.storage, "of b");
    browser.clock.sleep(3_600_000);
    await wait(1200);
    expect([...a.client.adopted, ...b.client.adopted]).toEqual([]);
    b.kill();
    await until(() => a.client.adopted.length > 0, 20_000);
    expect(a.client.adopted).toEqual(["of b"]);
  });
});

describe("hints", () => {
  it("wakes the client when the tab is looked at, once, and says when it is away", async () => {
    const tab = await new Browser().open();
    const { client, document, window, network } = tab;
    const since = async (work: () => void) => {
      await wait(20);
      client.calls.length = 0;
      work();
      await wait(1);
      return client.calls.join(" ");
    };
    expect(await since(() => { document.visibilityState = "hidden"; document.dispatchEvent(new Event("visibilitychange")); })).toBe("away");
    expect(await since(() => {
      document.visibilityState = "visible";
      window.dispatchEvent(new Event("pageshow"));
      document.dispatchEvent(new Event("visibilitychange"));
      window.dispatchEvent(new Event("focus"));
    })).toBe("wake online check");
    expect(await since(() => window.dispatchEvent(new Event("focus")))).toBe("wake check");
    expect(await since(() => window.dispatchEvent(new Event("online")))).toBe("wake");
    expect(await since(() => network.dispatchEvent(new Event("change")))).toBe("wake");
  });
});
