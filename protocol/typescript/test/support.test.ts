import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";

import { Disk, DiskStorage, DiskVault } from "./support/disk.js";
import { Proxy } from "./support/proxy.js";
import { Reader } from "./support/reader.js";
import { Server } from "./support/server.js";
import { Chance, pass, until } from "./support/until.js";

/** The tools of the other tests do what they say: a fault that does not happen proves nothing. */

describe("the network", () => {
  let server: Server;
  let proxy: Proxy;
  let token: string;
  beforeAll(async () => {
    server = await Server.start();
    proxy = await Proxy.start(server.port);
    token = (await Reader.register(server, "Ana")).token;
  }, 40_000);
  afterAll(async () => {
    await proxy.stop();
    await server.remove();
  });

  /** A signed-in socket, and how many pongs have come. */
  async function open(): Promise<{ ws: WebSocket; ping: () => void; pongs: () => number; closed: () => number | undefined }> {
    proxy.heal();
    const ws = new WebSocket(`${proxy.url.replace("http", "ws")}/ws`, "membersbook.v1");
    let pongs = 0;
    let closed: number | undefined;
    let isReady = false;
    ws.on("error", () => undefined);
    ws.on("close", (code) => (closed = code));
    ws.on("message", (data: Buffer) => {
      const { type } = JSON.parse(data.toString()) as { type: string };
      if (type === "pong") pongs += 1;
      if (type === "sync.done") isReady = true;
    });
    ws.on("open", () => ws.send(JSON.stringify({ type: "hello", id: "1", token, device: { id: `test-${Math.random()}`, platform: "other" } })));
    await until("the socket is ready", () => isReady);
    return { ws, ping: () => ws.send('{"type":"ping","id":"p"}'), pongs: () => pongs, closed: () => closed };
  }

  test("passes what is sent, and a cut is a reset", async () => {
    const { ping, pongs, closed } = await open();
    ping();
    await until("a pong", () => pongs() === 1);
    proxy.cut();
    await until("the end", () => closed() === 1006);
    expect(proxy.links.size).toBe(0);
  });

  test("frozen: nothing comes, nothing ends, not even when the server is killed; and it all comes later", async () => {
    const { ping, pongs, closed } = await open();
    proxy.set({ frozen: true });
    ping();
    await pass(300);
    expect(pongs()).toBe(0);
    await server.restart();
    await pass(100);
    expect(closed()).toBeUndefined();
    proxy.set({});
    await until("the end", () => closed() !== undefined);
  });

  test("half open: what is sent arrives, the answer does not", async () => {
    const { ping, pongs, closed } = await open();
    proxy.setOpen({ frozen: true }, "down");
    ping();
    await pass(300);
    expect(pongs()).toBe(0);
    proxy.setOpen({});
    await until("a pong", () => pongs() === 1);
    expect(closed()).toBeUndefined();
    proxy.cut();
  });

  test("slow and delayed", async () => {
    const { ping, pongs } = await open();
    proxy.setOpen({ delay: 200 });
    let started = performance.now();
    ping();
    await until("a pong", () => pongs() === 1);
    expect(performance.now() - started).toBeGreaterThan(390);
    proxy.setOpen({ rate: 500 });
    started = performance.now();
    for (let n = 0; n < 3; n += 1) ping();
    await until("pongs", () => pongs() === 4);
    expect(performance.now() - started).toBeGreaterThan(400);
    proxy.cut();
  });

  test("refused and dead", async () => {
    proxy.heal();
    proxy.cut();
    proxy.reach = "refused";
    await expect(fetch(`${proxy.url}/healthz`)).rejects.toThrow();
    proxy.reach = "dead";
    await expect(fetch(`${proxy.url}/healthz`, { signal: AbortSignal.timeout(300) })).rejects.toThrow(/timeout|aborted/i);
    proxy.cut();
    proxy.heal();
    expect((await fetch(`${proxy.url}/healthz`)).ok).toBe(true);
  });

  test("an answer is cut in its middle: the server has done it", async () => {
    proxy.heal();
    const ana = await Reader.register(server, "Ana");
    const eva = await Reader.register(server, "Eva");
    proxy.cutAnswer(/POST \/api\/messages/, 100);
    const send = fetch(`${proxy.url}/api/messages`, {
      method: "POST",
      headers: { authorization: `Bearer ${ana.token}`, "content-type": "application/json" },
      body: JSON.stringify({ receiver_id: eva.person.id, client_id: crypto.randomUUID(), content: "once" }),
    }).then((response) => response.text());
    await expect(send).rejects.toThrow();
    expect(proxy.hasCuts).toBe(false);
    expect(await ana.messages(eva.person.id)).toHaveLength(1);
  });

  test("a server that stands still answers nothing, and goes on", async () => {
    server.pause();
    await expect(fetch(`${server.url}/healthz`, { signal: AbortSignal.timeout(300) })).rejects.toThrow();
    server.resume();
    expect((await fetch(`${server.url}/healthz`)).ok).toBe(true);
  });
});

describe("the disk", () => {
  const put = (key: string, value: string | null): { put: ReadonlyMap<string, string | null> } => ({ put: new Map([[key, value]]) });

  test("keeps order, gives ranges, and knows which messages it has", async () => {
    const disk = new Disk(new Chance(1));
    const storage = new DiskStorage(disk);
    await storage.open();
    await Promise.all(["b", "a", "c", "d"].map((key) => storage.write(put(key, `{"content":"w-x-${key.charCodeAt(0)}"}`))));
    expect((await storage.range("a", "d")).map(([key]) => key)).toEqual(["a", "b", "c"]);
    expect((await storage.range("c", "z")).map(([key]) => key)).toEqual(["c", "d"]);
    expect(disk.holds("w-x-97")).toBe(true);
    await storage.write({ clear: [["a", "c"]], ...put("b", "again") });
    expect((await storage.range("", "z")).map(([key]) => key)).toEqual(["b", "c", "d"]);
    expect(disk.holds("w-x-97")).toBe(false);
    await storage.write(put("c", null));
    expect(await storage.get("c")).toBeUndefined();
    expect(storage.misuse).toEqual([]);
  });

  test("a kill loses or makes what is on its way, from its beginning and each write as a whole, and answers nothing", async () => {
    for (const pending of ["lost", "applied", "some"] as const) {
      const disk = new Disk(new Chance(7));
      disk.slowness = 20;
      const storage = new DiskStorage(disk);
      await storage.open();
      let answers = 0;
      const count = (): void => {
        answers += 1;
      };
      for (let n = 0; n < 5; n += 1) void storage.write({ put: new Map([[`a${n}`, "1"], [`b${n}`, "1"]]) }).then(count, count);
      storage.kill(pending);
      await pass(50);
      expect(answers).toBe(0);
      if (pending === "lost") expect(disk.size).toBe(0);
      if (pending === "applied") expect(disk.size).toBe(10);
      expect(disk.size % 2).toBe(0);
      for (let n = 0; n < disk.size / 2; n += 1) expect(disk.get(`a${n}`)).toBe("1");
      disk.slowness = 0;
      const next = new DiskStorage(disk);
      await next.open();
      await next.write(put("z", "1"));
      expect(disk.get("z")).toBe("1");
    }
  });

  test("is full: nothing is changed", async () => {
    const disk = new Disk(new Chance(1));
    const storage = new DiskStorage(disk);
    await storage.open();
    disk.isFull = true;
    await expect(storage.write(put("a", "1"))).rejects.toThrow();
    expect(disk.size).toBe(0);
    disk.isFull = false;
    await storage.write(put("a", "1"));
    expect(disk.size).toBe(1);
  });

  test("the vault lets one in at a time", async () => {
    const disk = new Disk(new Chance(1));
    const vault = new DiskVault(disk);
    const order: string[] = [];
    await Promise.all(
      ["a", "b"].map((name) =>
        vault.exclusive(async () => {
          order.push(`${name} in`);
          await vault.set(name);
          order.push(`${name} out`);
        }),
      ),
    );
    expect(order).toEqual(["a in", "a out", "b in", "b out"]);
    expect(await vault.get()).toBe("b");
  });
});
