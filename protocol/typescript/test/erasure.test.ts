import "fake-indexeddb/auto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";

import { platformEnvironment } from "../src/environment.js";
import type { Socket } from "../src/environment.js";
import { eraseIn } from "../src/erasures.js";
import { Keys } from "../src/records.js";
import { IndexedDbStorage } from "../src/storage/indexeddb.js";
import { MemoryStorage } from "../src/storage/memory.js";
import { WebClient } from "../src/web/client.js";
import type { WebHost } from "../src/web/host.js";
import type { Reader } from "./support/reader.js";
import { until } from "./support/until.js";
import { credentials, World } from "./support/world.js";
import { Browser } from "./web.browser.js";
import type { OpenTab } from "./web.browser.js";

vi.setConfig({ testTimeout: 30_000 });

/** What the tests look for on the disk. */
const SECRET = "the menu of the jubilee";
const never = new Promise<never>(() => undefined);

let world: World;
let browser: Browser;
const running: { client: WebClient; kill(): void }[] = [];
beforeEach(async () => {
  world = await World.make();
  browser = new Browser({ times: 1 });
}, 40_000);
afterEach(async () => {
  for (const each of running.splice(0)) each.kill();
  await world.end();
}, 20_000);

/** A tab with the real client, on the real server. */
async function open(host: Partial<WebHost> = {}): Promise<{ client: WebClient; tab: OpenTab; kill(): void }> {
  const sockets: WebSocket[] = [];
  let client: WebClient | undefined;
  const tab = await browser.open(undefined, host, (own, isDead) => {
    const alive = <T>(work: () => Promise<T>) => (isDead() ? never : work().then((value) => (isDead() ? never : value)));
    const { storage, vault } = own;
    client = new WebClient({
      url: world.server.url, platform: "web",
      storage: {
        open: () => alive(() => storage.open()), get: (key) => alive(() => storage.get(key)), range: (...range) => alive(() => storage.range(...range)),
        write: (changes) => alive(() => storage.write(changes)), close: () => alive(() => storage.close()),
      },
      vault: {
        get: () => alive(() => vault.get()), set: (...set) => alive(() => vault.set(...set)), erasing: () => alive(() => vault.erasing()),
        erased: (gone) => alive(() => vault.erased(gone)), exclusive: (work) => vault.exclusive(work),
      },
      environment: {
        ...platformEnvironment(),
        fetch: (input, init) => alive(() => fetch(input, init)),
        socket: (url, protocol) => {
          const socket = new WebSocket(url, protocol);
          sockets.push(socket);
          return socket as unknown as Socket;
        },
      },
    });
    return client;
  });
  if (!client) throw new Error("no client");
  const made = client;
  const kill = () => {
    tab.kill();
    for (const socket of sockets) socket.terminate();
  };
  running.push({ client: made, kill });
  await made.start();
  return { client: made, tab, kill };
}

/** All that is on the disk of the browser, in every slot. */
async function disk(): Promise<string> {
  let all = "";
  for (let slot = 0; slot < 5; slot += 1) {
    const storage = new IndexedDbStorage(`members-book:test:${slot}`, { factory: browser.indexedDB as IDBFactory });
    await storage.open();
    all += JSON.stringify(await storage.range("0", "g"));
    await storage.close();
  }
  return all;
}

/** Ana in several tabs, each of which has what Ben wrote. */
async function tabs(count: number, host: Partial<WebHost> = {}) {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const all = [await open()];
  await all[0]?.client.login(credentials(ana.person));
  while (all.length < count) all.push(await open(host));
  for (const { client } of all) await until("a tab is online", () => client.connection.getSnapshot().status === "online");
  await ben.send(ana.person.id, SECRET);
  for (const { client } of all) await until("it has come", () => client.conversations.getSnapshot().conversations[0]?.last?.content === SECRET);
  await until("it is kept", async () => (await disk()).split(`"content\\":\\"${SECRET}`).length > count);
  return { ana, ben, all };
}

async function nothingOf(member: Reader): Promise<void> {
  let found = "";
  await until("nothing of the member is on the disk", async () => {
    found = await disk();
    return !found.includes(member.person.id) && !found.includes(SECRET) && !found.includes(member.person.email);
  }, { explain: () => found });
}

describe("a log-out", () => {
  for (const [what, host, all] of [
    ["", {}, false],
    [", also of a tab that hears of it from the server first", { channel: undefined }, false],
    [", of every device", {}, true],
    [", of every device, also of a tab that hears of it from the server first", { channel: undefined }, true],
  ] as const) {
    test(`leaves nothing of the member in any tab${what}`, async () => {
      const { ana, all: [first, second] } = await tabs(2, host);
      const left = first?.client.logout({ all });
      await until("both are signed out", () => second?.client.session.getSnapshot().status === "signed_out" && first?.client.session.getSnapshot().status === "signed_out");
      await left;
      // Without a channel a tab looks when it is looked at.
      if (host.channel === undefined && "channel" in host) await second?.client.checkSession();
      await nothingOf(ana);
      await until("it is known why", () => (second?.client.session.getSnapshot() as { reason?: string }).reason === "logged_out");
    });
  }

  test("is known by the disk before the server is told: without a network, and with the browser closed at once, nothing stays", async () => {
    const { ana, all } = await tabs(3);
    all[2]?.kill();
    all[1]?.kill();
    await world.server.kill();
    void all[0]?.client.logout();
    const shared = new IndexedDbStorage("members-book:test", { factory: browser.indexedDB as IDBFactory, shared: true });
    await until("it is noted", async () => (await shared.range("erase:", "erase:~")).length > 0);
    all[0]?.kill();
    await world.server.launch();
    const { client } = await open();
    expect(client.session.getSnapshot().status).toBe("signed_out");
    await nothingOf(ana);
    expect(await shared.range("erase:", "erase:~")).toEqual([]);
  });

  test("does not take what the same member writes after signing in again", async () => {
    const { ana, ben, all: [first, second] } = await tabs(2);
    second?.kill();
    await first?.client.logout();
    await first?.client.login(credentials(ana.person));
    await world.server.kill();
    await first?.client.conversation({ member: ben.person.id }).send("written later");
    await first?.client.checkSession();
    expect(first?.client.unsent()).toBe(1);
    expect(await disk()).toContain("written later");
  });

  test("and a log-in of the same member, before another tab has looked: that one begins anew, and shows everything", async () => {
    const { ana, all: [first, second] } = await tabs(2, { channel: undefined });
    const { client } = second ?? (await open());
    await first?.client.logout();
    await first?.client.login(credentials(ana.person));
    await client.checkSession();
    await until("it shows everything again", () => client.conversations.getSnapshot().conversations[0]?.last?.content === SECRET && client.connection.getSnapshot().status === "online", {
      explain: () => [client.session.getSnapshot(), client.connection.getSnapshot()],
    });
    expect(client.session.getSnapshot()).toMatchObject({ status: "signed_in" });
  });
});

describe("leaving the club", () => {
  test("leaves nothing in any tab, what was not sent included", async () => {
    const { ana, ben, all } = await tabs(3);
    await all[1]?.client.conversation({ member: ben.person.id }).send("hello");
    all[2]?.kill();
    await all[0]?.client.leave();
    await nothingOf(ana);
    await until("the other tab is signed out", () => all[1]?.client.session.getSnapshot().status === "signed_out");
    expect(all[0]?.client.session.getSnapshot()).toEqual({ status: "signed_out", reason: "logged_out" });
  });
});

describe("the store of a tab that was closed", () => {
  test("loses what is noted once, and nothing that comes later, where that could not be told", async () => {
    const storage = new MemoryStorage();
    const member = "a".repeat(24);
    const keys = new Keys(member);
    const noted = [`${member}.1`];
    await storage.write({ put: new Map([[keys.outgoing(1), "before"]]) });
    await expect(eraseIn(storage, noted, () => Promise.reject(new Error("the tab died")))).rejects.toThrow("died");
    await storage.write({ put: new Map([[keys.outgoing(2), "later"]]) });
    await eraseIn(storage, noted, () => Promise.resolve());
    expect(await storage.range(...keys.all)).toEqual([[keys.outgoing(2), "later"]]);
    await eraseIn(storage, [`${member}.2`], () => Promise.resolve());
    expect(await storage.range("0", "~")).toEqual([]);
  });
});
