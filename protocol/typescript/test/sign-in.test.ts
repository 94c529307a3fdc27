import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";

import { platformEnvironment } from "../src/environment.js";
import { MembersBookError, MemoryStorage, MemoryVault } from "../src/index.js";
import type { Client, Erasure, SessionState } from "../src/index.js";
import { Members } from "../src/members.js";
import { People } from "../src/people.js";
import type { SessionList } from "../src/protocol.js";
import { local, online, SharedVault, stopLocals } from "./support/local.js";
import type { Reader } from "./support/reader.js";
import { until } from "./support/until.js";
import { contents, credentials, shows, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(async () => {
  await stopLocals();
  await world.end();
}, 20_000);

/** A vault that fails where the test says so. */
class FailingVault extends MemoryVault {
  reads = false;
  writes = false;
  notes = false;

  override async get(): Promise<string | undefined> {
    if (this.reads) throw new Error("the keystore cannot be read");
    return super.get();
  }

  override async set(value: string | null, erase?: Erasure): Promise<void> {
    if (this.writes) throw new Error("the keystore is busy");
    return super.set(value, erase);
  }

  override async erased(gone: readonly Erasure[]): Promise<void> {
    if (this.notes) throw new Error("the keystore is busy");
    return super.erased(gone);
  }
}

function status(client: Client): SessionState["status"] {
  return client.session.getSnapshot().status;
}

async function code(work: Promise<unknown>): Promise<string> {
  const error = await work.then(() => undefined, (cause: unknown) => cause);
  return error instanceof MembersBookError ? error.code : String(error);
}

/** How many sessions a member has, that of the test among them. */
async function sessions(member: Reader): Promise<number> {
  return (await member.get<SessionList>("/api/members/me/sessions")).sessions.length;
}

/** What is stored of members. */
async function stored(storage: MemoryStorage): Promise<string> {
  return JSON.stringify(await storage.range("0", "g"));
}

describe("who is signed in", () => {
  test("is one member: also when another one was being taken up, and the lock of the vault was held", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    /** Counts who wants the lock. */
    class Counting extends MemoryVault {
      asked = 0;
      override exclusive<T>(work: () => Promise<T>): Promise<T> {
        this.asked += 1;
        return super.exclusive(work);
      }
    }
    /** Reading what is of members waits for the test. */
    class Slow extends MemoryStorage {
      go: Promise<unknown> | undefined;
      waiting = 0;
      override async range(...of: Parameters<MemoryStorage["range"]>): Promise<[string, string][]> {
        if (/^[0-9a-f]{24}/.test(of[0])) {
          this.waiting += 1;
          await this.go;
        }
        return super.range(...of);
      }
    }
    const [vault, storage] = [new Counting(), new Slow()];
    const [one, two] = [await local(world.server, { vault }), await local(world.server, { vault, storage })];
    await one.client.login(credentials(ana.person));
    await online(one);
    let go: () => void = () => undefined;
    storage.go = new Promise<void>((resolve) => (go = resolve));
    const check = two.client.checkSession();
    await until("Ana is being taken up", () => storage.waiting > 0);
    let release: () => void = () => undefined;
    const held = vault.exclusive(() => new Promise<void>((resolve) => (release = resolve)));
    const before = vault.asked;
    const login = two.client.login(credentials(ben.person));
    await until("Ben has the answer of the server", () => vault.asked > before);
    // Ana is shown first, and Ben after her, or Ben alone: never one with what is of the other.
    go();
    await until("Ana is shown", () => two.client.session.getSnapshot().status === "signed_in");
    release();
    await held;
    expect((await login).name).toBe("Ben");
    await check;
    expect(two.client.session.getSnapshot()).toMatchObject({ status: "signed_in", member: { name: "Ben" } });
    expect((await new Members(two.client.api).me()).value.name).toBe("Ben");
    await online(two);
    await ana.send(ben.person.id, "for Ben only");
    const chat = two.client.conversation({ member: ana.person.id });
    chat.messages.subscribe(() => undefined);
    await shows(chat, "it has come", ({ messages }) => messages[0]?.own === false);
    await until("it is kept as that of Ben", async () => (await storage.range(`${ben.person.id}/e/`, `${ben.person.id}/e/~`)).length === 1);
    expect(await storage.range(`${ana.person.id}/`, `${ana.person.id}/~`)).toEqual([]);
  });

  test("a log-in that the vault does not keep changes nothing", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const vault = new FailingVault();
    const tab = await local(world.server, { vault });
    await tab.client.login(credentials(ana.person));
    await online(tab);
    vault.writes = true;
    expect(await code(tab.client.login(credentials(ben.person)))).toBe("storage");
    expect(tab.client.session.getSnapshot()).toMatchObject({ status: "signed_in", member: { name: "Ana" } });
    expect((await new Members(tab.client.api).me()).value.name).toBe("Ana");
    await until("the session that nobody has is over", async () => (await sessions(ben)) === 1);
  });

  test("a new log-in of the same member ends the session before it", async () => {
    const ana = await world.member("Ana");
    const tab = await local(world.server);
    await tab.client.login(credentials(ana.person));
    await tab.client.login(credentials(ana.person));
    await online(tab);
    await until("the former one is over", async () => (await sessions(ana)) === 2);
    await tab.client.logout();
    expect(await sessions(ana)).toBe(1);
  });

  test("in other tabs goes on when the same member logs in again in one", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const vault = new MemoryVault();
    const [one, two] = [await local(world.server, { vault }), await local(world.server, { vault })];
    await one.client.login(credentials(ana.person));
    await two.client.checkSession();
    await Promise.all([online(one), online(two)]);
    const before = two.sockets.at(-1);
    await one.client.login(credentials(ana.person));
    await until("the former session is over", async () => (await sessions(ana)) === 2);
    await until("the other tab has another connection", () => two.sockets.at(-1) !== before && two.client.connection.getSnapshot().status === "online");
    await ben.send(ana.person.id, "hello");
    for (const { client } of [one, two]) await until("it has come", () => client.conversations.getSnapshot().conversations[0]?.last?.content === "hello");
    expect([status(one.client), status(two.client)]).toEqual(["signed_in", "signed_in"]);
  });

  test("a late refusal in one tab does not end the session that has begun in another since: it goes on with that", async () => {
    const ana = await world.member("Ana");
    const vault = new MemoryVault();
    const [one, two] = [await local(world.server, { vault }), await local(world.server, { vault })];
    await one.client.login(credentials(ana.person));
    await two.client.checkSession();
    await Promise.all([online(one), online(two)]);
    const frozen = two.sockets.at(-1);
    one.sockets.at(-1)?.onclose?.({ code: 4403, reason: "" });
    await until("it is over", () => status(one.client) === "signed_out");
    await vault.exclusive(() => Promise.resolve());
    await one.client.login(credentials(ana.person));
    const kept = await vault.get();
    frozen?.onclose?.({ code: 4403, reason: "" });
    await until("the other tab is connected again", () => two.sockets.at(-1) !== frozen && two.client.connection.getSnapshot().status === "online");
    await vault.exclusive(() => Promise.resolve());
    expect(await vault.get()).toBe(kept);
    await Promise.all([one.client.checkSession(), two.client.checkSession()]);
    expect([status(one.client), status(two.client)]).toEqual(["signed_in", "signed_in"]);
  });

  test("a vault that cannot be read keeps nobody out: a log-in takes its place", async () => {
    const ana = await world.member("Ana");
    const vault = new FailingVault();
    vault.reads = true;
    const tab = await local(world.server, { vault });
    expect(status(tab.client)).toBe("signed_out");
    await tab.client.login(credentials(ana.person));
    await online(tab);
    expect(status(tab.client)).toBe("signed_in");
  });

  test("a vault that can be read again later is taken up", async () => {
    const ana = await world.member("Ana");
    const vault = new FailingVault();
    await (await local(world.server, { vault })).client.login(credentials(ana.person));
    vault.reads = true;
    const tab = await local(world.server, { vault });
    expect(status(tab.client)).toBe("signed_out");
    vault.reads = false;
    await online(tab);
  });
});

describe("a log-out", () => {
  test("that the vault does not keep is refused, ends the session at the server, and is finished by the next one", async () => {
    const ana = await world.member("Ana");
    const [storage, vault] = [new MemoryStorage(), new FailingVault()];
    const tab = await local(world.server, { storage, vault });
    await tab.client.login(credentials(ana.person));
    await online(tab);
    vault.writes = true;
    await expect(tab.client.logout()).rejects.toThrow("busy");
    expect(tab.client.session.getSnapshot()).not.toMatchObject({ reason: "logged_out" });
    expect(await sessions(ana)).toBe(1);
    vault.writes = false;
    await tab.client.logout();
    expect(tab.client.session.getSnapshot()).toEqual({ status: "signed_out", reason: "logged_out" });
    expect(await stored(storage)).not.toContain(ana.person.id);
    await tab.client.stop();
    const again = await local(world.server, { storage, vault });
    expect(status(again.client)).toBe("signed_out");
  });

  test("after the session is over erases what was not sent", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const storage = new MemoryStorage();
    // It comes back only after its session has ended, and does not send what it has before.
    let away = false;
    const sockets: WebSocket[] = [];
    const socket = (url: string, protocol: string): WebSocket => {
      sockets.push(new WebSocket(away ? "ws://127.0.0.1:9" : url, protocol));
      return sockets.at(-1) as WebSocket;
    };
    const tab = await local(world.server, { storage, socket });
    await tab.client.login(credentials(ana.person));
    await online(tab);
    away = true;
    sockets.at(-1)?.terminate();
    await until("it is away", () => tab.client.connection.getSnapshot().status !== "online");
    await tab.client.conversation({ member: ben.person.id }).send("not sent");
    await ana.ask("DELETE", "/api/members/me/sessions");
    away = false;
    tab.client.wake();
    await until("it is over", () => status(tab.client) === "signed_out");
    expect(tab.client.unsent()).toBe(1);
    await tab.client.logout();
    expect(tab.client.unsent()).toBe(0);
    expect(await stored(storage)).not.toContain("not sent");
  });

  test("of every device rejects where something else than the server answers, and so does a log-in", async () => {
    const ana = await world.member("Ana");
    let portal = true;
    let text = "<html>log in to the network</html>";
    const page = () => new Response(text, { status: 200, headers: { "content-type": "text/html" } });
    const tab = await local(world.server, { fetch: (...of) => (portal ? Promise.resolve(page()) : fetch(...of)) });
    for (text of ['{"log":"in"}', text]) expect(await code(tab.client.login(credentials(ana.person)))).toBe("network");
    portal = false;
    await tab.client.login(credentials(ana.person));
    await online(tab);
    portal = true;
    expect(await code(tab.client.logout({ all: true }))).toBe("network");
    expect(status(tab.client)).toBe("signed_in");
    portal = false;
    await tab.client.logout({ all: true });
    expect(status(tab.client)).toBe("signed_out");
  });

  test("does not wait for a refresh that is not answered", async () => {
    const ana = await world.member("Ana");
    let refreshing = 0;
    const hang = () => {
      refreshing += 1;
      return new Promise<Response>(() => undefined);
    };
    const tab = await local(world.server, { fetch: (input, init) => (String(input).endsWith("/refresh") ? hang() : fetch(input, init)) });
    await tab.client.login(credentials(ana.person));
    await online(tab);
    // All other sessions and this one: the next request asks for another token.
    await ana.ask("DELETE", "/api/members/me/sessions");
    void tab.client.refreshMember().catch(() => undefined);
    await until("it asks for another token", () => refreshing > 0);
    await until("it is signed out", () => {
      void tab.client.logout();
      return status(tab.client) === "signed_out";
    });
  });

  test("whose erasure the vault could not be told takes nothing of what the member writes after the next log-in", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [storage, vault] = [new MemoryStorage(), new FailingVault()];
    const tab = await local(world.server, { storage, vault });
    await tab.client.login(credentials(ana.person));
    await online(tab);
    vault.notes = true;
    await tab.client.logout();
    await tab.client.login(credentials(ana.person));
    await online(tab);
    vault.notes = false;
    await world.server.kill();
    await until("it is away", () => tab.client.connection.getSnapshot().status !== "online");
    await tab.client.conversation({ member: ben.person.id }).send("written later");
    await tab.client.stop();
    const again = await local(world.server, { storage, vault });
    expect(status(again.client)).toBe("signed_in");
    expect(again.client.unsent()).toBe(1);
    await again.client.checkSession();
    expect(await vault.erasing()).toEqual([]);
    expect(again.client.unsent()).toBe(1);
  });

  test("is the end of handles: what a screen still has writes nothing", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const storage = new MemoryStorage();
    const tab = await local(world.server, { storage });
    await tab.client.login(credentials(ana.person));
    await online(tab);
    await ben.send(ana.person.id, "the menu of the jubilee");
    const chat = tab.client.conversation({ member: ben.person.id });
    const nobody = tab.client.conversation({ member: "f".repeat(24) });
    for (const { messages } of [chat, nobody]) messages.subscribe(() => undefined);
    await shows(chat, "it has come", ({ messages }) => messages.length === 1);
    const key = await nobody.send("refused");
    await shows(nobody, "it is refused", ({ messages }) => messages[0]?.status === "failed");
    await tab.client.logout();
    const before = await stored(storage);
    chat.markRead();
    for (const work of [nobody.edit(key, "refused again"), nobody.retry(key), nobody.drop(key), chat.send("more")]) expect(await code(work)).toBe("token_missing");
    await tab.client.stop();
    expect(before).not.toContain(ana.person.id);
    expect(await stored(storage)).toBe(before);
  });
});

describe("a token that could not be kept at once", () => {
  test("signs nobody out, in any tab", async () => {
    const ana = await world.member("Ana");
    class Once extends MemoryVault {
      fails = 0;
      override async set(value: string | null, erase?: Erasure): Promise<void> {
        if (this.fails-- > 0) throw new Error("there is no room");
        return super.set(value, erase);
      }
    }
    const vault = new Once();
    const platform = platformEnvironment();
    // Both take their tokens for expired, and renew them before each use.
    const clock = { ...platform.clock, now: () => Date.now() + 3_600_000 };
    const one = await local(world.server, { vault });
    await one.client.login(credentials(ana.person));
    await online(one);
    const [two, three] = [await local(world.server, { vault, clock }), await local(world.server, { vault, clock })];
    vault.fails = 1;
    expect((await new Members(two.client.api).me()).value.name).toBe("Ana");
    expect((await new Members(three.client.api).me()).value.name).toBe("Ana");
    expect((await new Members(two.client.api).me()).value.name).toBe("Ana");
    expect([status(one.client), status(two.client), status(three.client)]).toEqual(["signed_in", "signed_in", "signed_in"]);
  });
});

describe("what was got of other members", () => {
  test("before a log-in is of whoever logs in", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const tab = await local(world.server);
    const people = new People(tab.client);
    const [card, presence] = [people.member(ben.person.id), people.presence(ben.person.id)];
    expect(people.member(ben.person.id)).toBe(card);
    card.subscribe(() => undefined);
    presence.subscribe(() => undefined);
    await tab.client.login(credentials(ana.person));
    await until("it is known who that is", () => card.getSnapshot()?.name === "Ben");
    await until("it is known how they are", () => presence.getSnapshot().status === "offline");
    await tab.client.logout();
    expect([card.getSnapshot(), presence.getSnapshot()]).toEqual([undefined, { status: "unknown" }]);
  });

  test("goes on when another tab has logged out and in", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const vault = new SharedVault();
    await ben.send(ana.person.id, "hello");
    const [one, two] = [await local(world.server, { vault: vault.view() }), await local(world.server, { vault: vault.view() })];
    await one.client.login(credentials(ana.person));
    await two.client.checkSession();
    await online(two);
    const b = await world.signedIn(ben, "of Ben");
    const presence = new People(two.client).presence(ben.person.id);
    presence.subscribe(() => undefined);
    await until("it is known", () => presence.getSnapshot().status === "online");
    await one.client.logout();
    await one.client.login(credentials(ana.person));
    await two.client.checkSession();
    await online(two);
    await until("it is known again", () => presence.getSnapshot().status === "online");
    b.device.kill();
    await until("it changes", () => presence.getSnapshot().status === "offline", { ms: 20_000 });
  });
});

describe("older messages", () => {
  test("that are damaged on the device come again from the server", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [storage, vault] = [new MemoryStorage(), new MemoryVault()];
    const first = await local(world.server, { storage, vault });
    await first.client.login(credentials(ana.person));
    await online(first);
    const all = Array.from({ length: 120 }, (_, n) => `w-b-${n}`);
    for (const content of all) await ben.send(ana.person.id, content);
    const entries = () => storage.range(`${ana.person.id}/e/`, `${ana.person.id}/e/~`);
    await until("all are kept", async () => (await entries()).length === all.length);
    await first.client.stop();
    const [key] = (await entries())[39] ?? [];
    if (key === undefined) throw new Error("no entry");
    await storage.write({ put: new Map([[key, '{"broken']]) });
    const again = await local(world.server, { storage, vault });
    await online(again);
    const chat = again.client.conversation({ member: ben.person.id });
    chat.messages.subscribe(() => undefined);
    await shows(chat, "the newest are there", ({ messages, ready }) => ready && messages.length > 0);
    for (let page = 0; page < 3; page += 1) await chat.loadOlder();
    expect(chat.messages.getSnapshot()).toMatchObject({ hasOlder: false });
    expect(chat.messages.getSnapshot().problem).toBeUndefined();
    expect(contents(chat)).toEqual(all);
  });
});

describe("a storage that does not open at first", () => {
  /** It opens when the test says so. */
  class Locked extends MemoryStorage {
    locked = false;
    attempts = 0;

    private check(): void {
      if (this.locked) throw new Error("the database is locked");
    }

    override async open(): Promise<void> {
      this.attempts += 1;
      this.check();
    }

    override async get(key: string): Promise<string | undefined> {
      this.check();
      return super.get(key);
    }

    /** Told when the outbox is read; it is there when that resolves. */
    onOutbox: (() => Promise<void>) | undefined;

    override async range(...of: Parameters<MemoryStorage["range"]>): Promise<[string, string][]> {
      this.check();
      if (/^\w+\/o\//.test(of[0])) await this.onOutbox?.();
      return super.range(...of);
    }

    override async write(...of: Parameters<MemoryStorage["write"]>): Promise<void> {
      this.check();
      return super.write(...of);
    }
  }

  test("is opened later: what was not sent is sent, and the device is the one that it was", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [storage, vault] = [new Locked(), new MemoryVault()];
    const first = await local(world.server, { storage, vault });
    await first.client.login(credentials(ana.person));
    await online(first);
    await world.server.kill();
    await until("it is away", () => first.client.connection.getSnapshot().status !== "online");
    await first.client.conversation({ member: ben.person.id }).send("written before");
    await first.client.stop();
    const device = await storage.get("device");
    await world.server.launch();
    storage.locked = true;
    const again = await local(world.server, { storage, vault });
    await online(again);
    expect(again.client.connection.getSnapshot().storageFailing).toBe(true);
    await again.client.conversation({ member: ben.person.id }).send("written now");
    storage.locked = false;
    const sent = async () => (await ana.messages(ben.person.id)).map(({ content }) => content);
    await until("both are sent", async () => (await sent()).length === 2, { explain: sent });
    expect(await sent()).toEqual(["written before", "written now"]);
    await until("it is kept again", () => !again.client.connection.getSnapshot().storageFailing);
    expect(device).toBeTypeOf("string");
    expect(await storage.get("device")).toBe(device);
    expect(again.client.unsent()).toBe(0);
  });

  test("is not said to fail any more, also if the second attempt succeeds at once", async () => {
    const storage = new Locked();
    storage.open = async () => {
      storage.attempts += 1;
      if (storage.attempts === 1) throw new Error("the database is locked");
    };
    const { client } = await local(world.server, { storage });
    await until("it is kept", () => storage.get("schema"));
    await until("it works", () => !client.connection.getSnapshot().storageFailing);
    expect(storage.attempts).toBe(2);
  });

  test("and was given up is read while messages go on: what was sent meanwhile is not shown twice", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [storage, vault] = [new Locked(), new MemoryVault()];
    const first = await local(world.server, { storage, vault });
    await first.client.login(credentials(ana.person));
    await first.client.stop();
    storage.locked = true;
    // The clock of the test: the storage is given up at once.
    const { clock: real } = platformEnvironment();
    const clock = { ...real, setTimeout: (call: () => void, ms: number) => real.setTimeout(call, ms === 30_000 ? 0 : ms) };
    const { client } = await local(world.server, { storage, vault, clock });
    await until("it is online", () => client.connection.getSnapshot().status === "online");
    const handle = client.conversation({ member: ben.person.id });
    const seen = new Set<string>();
    handle.messages.subscribe(() => seen.add(contents(handle).join()));
    world.server.pause();
    await handle.send("on its way");
    const outbox = new Promise<() => void>((reached) => (storage.onOutbox = () => new Promise((resolve) => reached(resolve))));
    storage.locked = false;
    const look = await outbox;
    world.server.resume();
    await shows(handle, "it is sent", ({ messages }) => messages[0]?.status === "sent");
    look();
    await until("it is kept again", () => !client.connection.getSnapshot().storageFailing);
    expect([...seen].filter((each) => each !== "")).toEqual(["on its way"]);
    expect(client.unsent()).toBe(0);
  });
});

describe("a connection", () => {
  test("that was refused for good is tried again by wake()", async () => {
    const ana = await world.member("Ana");
    const tab = await local(world.server);
    await tab.client.login(credentials(ana.person));
    await online(tab);
    tab.sockets.at(-1)?.onclose?.({ code: 1009, reason: "" });
    expect(tab.client.connection.getSnapshot().status).toBe("stopped");
    tab.client.wake();
    await online(tab);
  });

  for (const [what, last] of [["while it catches up", "sync.done"], ["when it is online", "none"]] as const) {
    test(`that is dead ${what} is replaced within 3 s of wake()`, async () => {
      const ana = await world.member("Ana");
      const platform = platformEnvironment();
      const timers: { ms: number; call: () => void }[] = [];
      const clock = {
        ...platform.clock,
        setTimeout: (call: () => void, ms: number) => {
          timers.push({ ms, call });
          return platform.clock.setTimeout(call, ms);
        },
      };
      const tab = await local(world.server, { clock });
      let dead = false;
      await tab.client.login(credentials(ana.person));
      await until("there is a socket", () => tab.sockets.length > 0);
      const [socket] = tab.sockets;
      const hear = socket?.onmessage;
      if (!socket || !hear) throw new Error("no socket");
      socket.onmessage = (event) => {
        dead ||= String(event.data).includes(`"${last}"`);
        if (!dead) hear(event);
      };
      if (last === "none") await online(tab);
      else await until("it catches up", () => dead && tab.client.connection.getSnapshot().status === "syncing");
      dead = true;
      timers.length = 0;
      tab.client.wake();
      // The clock of the test: three seconds are over.
      for (const { ms, call } of timers.splice(0)) if (ms <= 3_000) call();
      await until("there is another one", () => tab.sockets.length === 2);
      await online(tab);
    });
  }

  test("that has refused something that nobody waits for (typing) has no problem", async () => {
    const ana = await world.member("Ana");
    const tab = await local(world.server);
    await tab.client.login(credentials(ana.person));
    await online(tab);
    const socket = tab.sockets.at(-1);
    socket?.onmessage?.({ data: JSON.stringify({ type: "error", code: "rate_limited", message: "too fast" }) });
    socket?.onclose?.({ code: 1006, reason: "" });
    expect(tab.client.connection.getSnapshot()).toMatchObject({ status: "connecting" });
    expect(tab.client.connection.getSnapshot().problem).toBeUndefined();
  });

  test("is what a message waits for: then it names no other problem", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = a.device.client.conversation({ member: ben.person.id });
    chat.messages.subscribe(() => undefined);
    a.device.proxy.setOpen({ frozen: true }, "down");
    await chat.send("w-a-1");
    await shows(chat, "it is on its way", ({ messages }) => messages[0]?.status === "sending");
    await world.server.kill();
    a.device.proxy.cut();
    await shows(chat, "it waits", ({ messages }) => messages[0]?.status === "queued");
    expect(chat.messages.getSnapshot().messages[0]?.problem).toBeUndefined();
  });
});
