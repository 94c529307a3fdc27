import { randomUUID } from "node:crypto";
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";

import { Client, MembersBookError, MemoryStorage, MemoryVault } from "../src/index.js";
import type { DebugEvent, Socket } from "../src/index.js";
import type { Core, Extension } from "../src/extension.js";
import { People } from "../src/people.js";
import type { ClientFrame } from "../src/protocol.js";
import type { Device } from "./support/device.js";
import { ask } from "./support/reader.js";
import type { Reader } from "./support/reader.js";
import { until } from "./support/until.js";
import { contents, credentials, shows, statusOf, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(async (context) => {
  if (context.task.result?.state === "fail") for (const device of world.devices) console.error(`--- ${device.name}\n${device.log.slice(-60).join("\n")}`);
  await world.end();
}, 20_000);

/** What it throws, or rejects with. */
async function problemOf(work: () => unknown): Promise<MembersBookError | undefined> {
  try {
    await work();
  } catch (cause) {
    if (cause instanceof MembersBookError) return cause;
    throw new Error(`something else: ${String(cause)}`);
  }
  return undefined;
}

const codeOf = async (work: () => unknown) => (await problemOf(work))?.code;

/** A device of a member who has just logged in: nothing has come of the server yet. */
async function fresh(member: Reader, name = "phone"): Promise<{ device: Device; client: Client }> {
  const device = await world.device(name);
  const client = await device.launch();
  await client.login(credentials(member.person));
  return { device, client };
}

describe("one conversation that was asked for in two ways", () => {
  async function begun(): Promise<{ ana: Reader; ben: Reader; id: string }> {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    let id = "";
    for (let n = 0; n < 3; n += 1) id = (await ben.send(ana.person.id, `w-b-${n}`)).conversation_id;
    return { ana, ben, id };
  }

  for (const order of ["by its id first", "by its member first"]) {
    test(`before the first sync, ${order}: both show the same, it is one row, also after a restart`, async () => {
      const { ana, ben, id } = await begun();
      const { device, client } = await fresh(ana);
      const targets = [{ conversation: id }, { member: ben.person.id }];
      if (order === "by its member first") targets.reverse();
      const handles = targets.map((target) => client.conversation(target));
      const [one, two] = handles;
      if (!one || !two) throw new Error("no handles");
      let told = 0;
      for (const handle of handles) {
        handle.messages.subscribe(() => (told += 1));
        handle.info.subscribe(() => (told += 1));
      }
      await device.online();
      for (const handle of handles) await shows(handle, "it has the log", ({ messages }) => messages.length === 3);
      expect(told).toBeGreaterThan(0);
      expect(one.messages.getSnapshot()).toBe(two.messages.getSnapshot());
      expect(one.info.getSnapshot()).toBe(two.info.getSnapshot());
      expect(one.info.getSnapshot()).toMatchObject({ unread: 3, id, others: [ben.person.id] });
      // What was given stays what it is, with the key that it has.
      expect(targets.map((target) => client.conversation(target))).toEqual(handles);
      for (const handle of handles) expect(client.conversation(client.target(handle.key)).messages.getSnapshot()).toBe(one.messages.getSnapshot());
      for (const [n, handle] of handles.entries()) await handle.send(`w-a-${n}`);
      await shows(two, "both are sent", () => statusOf(two, "w-a-0") === "sent" && statusOf(two, "w-a-1") === "sent");
      expect(contents(one)).toEqual(["w-b-0", "w-b-1", "w-b-2", "w-a-0", "w-a-1"]);
      one.markRead();
      expect(two.info.getSnapshot().unread).toBe(0);
      expect(client.conversations.getSnapshot().conversations).toHaveLength(1);
      const keys = handles.map(({ key }) => key);

      await device.stop();
      const again = await device.launch();
      await device.online();
      expect(again.conversations.getSnapshot().conversations).toHaveLength(1);
      const later = keys.map((key) => again.conversation(again.target(key)));
      for (const handle of later) {
        handle.messages.subscribe(() => undefined);
        await shows(handle, "everything is there", ({ messages }) => messages.length === 5);
      }
      expect(new Set(later.map((handle) => handle.messages.getSnapshot())).size).toBe(1);
      expect((await ana.messages(ben.person.id)).map(({ content }) => content)).toEqual(later[0] && contents(later[0]));
    });
  }

  test("with messages of both that wait for the first sync: all are sent, once, in the order of the calls", async () => {
    const { ana, ben, id } = await begun();
    const { device, client } = await fresh(ana);
    device.proxy.reach = "refused";
    device.proxy.cut();
    const [byId, byMember] = [client.conversation({ conversation: id }), client.conversation({ member: ben.person.id })];
    for (const handle of [byId, byMember]) handle.messages.subscribe(() => undefined);
    for (let n = 0; n < 6; n += 1) await (n % 2 ? byId : byMember).send(`w-a-${n}`);
    // Not known yet to be one; the app ends meanwhile.
    device.kill("some");
    const again = await device.launch();
    const handles = [again.conversation({ member: ben.person.id }), again.conversation({ conversation: id })];
    for (const handle of handles) handle.messages.subscribe(() => undefined);
    device.proxy.heal();
    again.wake();
    await device.online();
    const all = ["w-b-0", "w-b-1", "w-b-2", ...Array.from({ length: 6 }, (_, n) => `w-a-${n}`)];
    for (const handle of handles) await shows(handle, "all are sent", ({ messages }) => messages.length === 9 && messages.every(({ own, status }) => !own || status === "sent"));
    for (const handle of handles) expect(contents(handle)).toEqual(all);
    expect((await ana.messages(ben.person.id)).map(({ content }) => content)).toEqual(all);
    expect(again.unsent()).toBe(0);
    expect(again.conversations.getSnapshot().conversations).toHaveLength(1);
  });

  test("two that an earlier version has made of one are one after the next start", async () => {
    const { ana, ben, id } = await begun();
    const { device, client } = await fresh(ana);
    // By the id alone, which is what is stored then.
    const handle = client.conversation({ conversation: id });
    handle.messages.subscribe(() => undefined);
    await device.online();
    await shows(handle, "it has the log", ({ messages }) => messages.length === 3);
    await device.stop();
    // The other half, as it was stored: without an id, with a message that was accepted elsewhere.
    const members = [ana.person.id, ben.person.id].map((member) => ({ member, delivered: 0, read: 0 }));
    const half = { kind: "direct", members, lastSeq: 4, first: 0, to: 0, unread: 0, unreadMore: false, countedTo: 0, later: 0, readWanted: 0, recount: false, lastAt: 1 };
    device.disk.apply({
      put: new Map([
        [`${ana.person.id}/c/m_${ben.person.id}`, JSON.stringify(half)],
        [`${ana.person.id}/o/0000000000000009`, JSON.stringify({ id: "019aa8c1-7d7e-7b33-9c55-3a6f0e9d1c20", conversation: `m_${ben.person.id}`, content: "w-a-0", at: 2 })],
      ]),
    });
    const again = await device.launch();
    expect(again.conversations.getSnapshot().conversations).toHaveLength(1);
    await device.online();
    const theirs = again.conversation({ member: ben.person.id });
    theirs.messages.subscribe(() => undefined);
    await shows(theirs, "everything is there", ({ messages }) => messages.length === 4 && messages.every(({ own, status }) => !own || status === "sent"));
    expect(again.conversation({ conversation: id })).toBe(theirs);
    await device.stop();
    expect(device.disk.get(`${ana.person.id}/c/m_${ben.person.id}`)).toBeUndefined();
  });
});

describe("presence of very many", () => {
  /** Ana's device, and so many others; what it has sent is counted as the server counts. */
  async function crowd(count: number) {
    const ana = await world.member("Ana");
    const ids: string[] = [];
    while (ids.length < count) ids.push(...(await Promise.all(Array.from({ length: Math.min(20, count - ids.length) }, (_, n) => world.member(`Other ${ids.length + n}`)))).map(({ person }) => person.id));
    const { device, client } = await fresh(ana);
    await device.online();
    const places = new Set<string>();
    const frames: string[] = [];
    let most = 0;
    device.onSent = (frame) => {
      if (frame.type === "presence.watch") for (const id of frame.members) places.add(id);
      if (frame.type === "presence.unwatch") for (const id of frame.members) places.delete(id);
      if (frame.type.startsWith("presence")) frames.push(frame.type);
      most = Math.max(most, places.size);
    };
    const watch = (of: readonly string[]) => {
      const releases = of.map((id) => new People(client).presence(id).subscribe(() => undefined));
      return () => releases.forEach((release) => release());
    };
    const known = (of: readonly string[]) => of.filter((id) => new People(client).presence(id).getSnapshot().status !== "unknown").length;
    const all = (of: readonly string[], ms = 5_000) => until(`${of.length} are known`, () => known(of) === of.length, { ms, explain: () => [known(of), frames] });
    return { client, device, ids, watch, known, all, frames, most: () => most };
  }

  test("500, then others, within seconds: those who are not looked at any more are given up in one frame", async () => {
    const { ids, watch, all, frames, most } = await crowd(700);
    const release = watch(ids.slice(0, 500));
    await all(ids.slice(0, 500));
    expect(frames.splice(0)).toEqual(Array.from({ length: 5 }, () => "presence.watch"));
    release();
    const others = ids.slice(500);
    watch(others);
    await all(others);
    expect(frames).toEqual(["presence.unwatch", "presence.watch", "presence.watch"]);
    expect(most()).toBeLessThanOrEqual(500);
  });

  test("three rounds of 200, and back to the first", async () => {
    const { ids, watch, all, most } = await crowd(600);
    for (const round of [0, 1, 2, 0]) {
      const some = ids.slice(round * 200, round * 200 + 200);
      const release = watch(some);
      await all(some);
      release();
    }
    expect(most()).toBeLessThanOrEqual(500);
  });

  test("more than there is room for: the others are watched when there is room again", async () => {
    const { device, ids, watch, known, all, most } = await crowd(520);
    const releases = ids.map((id) => watch([id]));
    await all(ids.slice(0, 500));
    expect(known(ids)).toBe(500);
    for (const release of releases.slice(100, 130)) release();
    await all(ids.slice(500));
    // Also over a reconnect.
    device.proxy.cut();
    await device.online();
    await all([...ids.slice(0, 100), ...ids.slice(130)]);
    expect(most()).toBeLessThanOrEqual(500);
  });

  test("somebody who is looked at again after a while, by the same object", async () => {
    const { client, ids, all, known } = await crowd(1);
    const [id = ""] = ids;
    const people = new People(client);
    const presence = people.presence(id);
    presence.subscribe(() => undefined)();
    expect(people.presence(id)).toBe(presence);
    const release = presence.subscribe(() => undefined);
    await all(ids);
    release();
    await until("it is given up", () => known(ids) === 0, { ms: 15_000 });
    presence.subscribe(() => undefined);
    await all(ids);
  });
});

describe("errors", () => {
  test("a message to oneself is refused at once, with the reason", async () => {
    const ana = await world.member("Ana");
    const { device, client } = await fresh(ana);
    await device.online();
    const notes = client.conversation({ member: ana.person.id });
    expect(await problemOf(() => notes.send("a note"))).toMatchObject({ code: "message_to_self", verdict: "fix" });
    expect(client.unsent()).toBe(0);
    expect(client.conversations.getSnapshot().conversations).toEqual([]);
    // One that an earlier version has kept.
    await device.stop();
    device.disk.apply({ put: new Map([[`${ana.person.id}/o/0000000000000009`, JSON.stringify({ id: randomUUID(), conversation: `m_${ana.person.id}`, content: "w-a-0", at: 2 })]]) });
    const again = await device.launch();
    const kept = again.conversation({ member: ana.person.id });
    kept.messages.subscribe(() => undefined);
    await shows(kept, "it has failed, with the reason", ({ messages }) => messages[0]?.problem?.code === "message_to_self" && messages[0].status === "failed");
  });

  test("what is no text, no target, no key, is an error of the client, and changes nothing", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device, client } = await fresh(ana);
    await device.online();
    const chat = client.conversation({ member: ben.person.id });
    const bad = <T>(value: unknown) => value as T;
    for (const content of [5, undefined, null, {}]) expect(await codeOf(() => chat.send(bad(content)))).toBe("validation_failed");
    for (const content of ["half \ud83d", "\ude00", "a\ud83d b"]) expect(await codeOf(() => chat.send(content))).toBe("validation_failed");
    for (const target of [null, undefined, {}, "m_1", { member: undefined }, { conversation: 5 }]) expect(await codeOf(() => client.conversation(bad(target)))).toBe("validation_failed");
    for (const key of [undefined, null, "", "x_1", "c_", 5]) expect(await codeOf(() => client.target(bad(key)))).toBe("validation_failed");
    for (const call of ["retry", "drop"] as const) expect(await problemOf(() => chat[call]("unknown"))).toMatchObject({ code: "message_not_found", message: "No message with this key waits here." });
    expect(await problemOf(() => chat.edit("unknown", "text"))).toMatchObject({ code: "message_not_found" });
    expect(client.unsent()).toBe(0);
    chat.messages.subscribe(() => undefined);
    const key = await chat.send("😀 whole");
    await shows(chat, "it is sent", () => statusOf(chat, "😀 whole") === "sent");
    expect(await problemOf(() => chat.retry(key))).toMatchObject({ message: "The server has this message already." });
  });

  test("people are told what they can understand, and support what the server has said", async () => {
    await world.server.restart({ RATE_LOGINS: "1", RATE_LOGINS_BURST: "1" });
    const client = await (await world.device("phone")).launch();
    const email = `${randomUUID()}@example.com`;
    const problems: (MembersBookError | undefined)[] = [];
    for (let n = 0; n < 8; n += 1) problems.push(await problemOf(() => client.login({ email, password: "another one" })));
    expect(problems[0]).toMatchObject({ code: "invalid_credentials", message: "The e-mail address or the password is wrong." });
    const limited = problems.find((problem) => problem?.code === "rate_limited");
    expect(limited).toMatchObject({ message: "That was too much at once. Try again in a moment.", verdict: "retry" });
    expect(limited?.details.said).toMatch(/\w/);
    expect(limited?.details.retryAfterMs).toBeGreaterThan(0);
  });

  test("a url that is none, and a missing WebSocket, are said at once", async () => {
    const options = { storage: new MemoryStorage(), vault: new MemoryVault(), platform: "other" } as const;
    const socket = () => ({}) as Socket;
    for (const url of ["", "127.0.0.1:8831", "ftp://club.example", "https://", "https:// club", "https://club.example?x", undefined as unknown as string]) {
      const problem = await problemOf(() => new Client({ ...options, url, environment: { socket } }));
      expect(problem).toMatchObject({ code: "validation_failed", verdict: "fix" });
      expect(problem?.message).toContain("https://club.example");
    }
    for (const url of ["http://127.0.0.1:8831", "https://club.example/", "https://example.com/club"]) new Client({ ...options, url, environment: { socket } });
    vi.stubGlobal("WebSocket", undefined);
    try {
      expect((await problemOf(() => new Client({ ...options, url: "https://club.example" })))?.message).toContain("environment: { socket }");
    } finally {
      vi.unstubAllGlobals();
    }
  });
});

describe("the life of a client", () => {
  test("after stop() nothing begins: start and log-ins say so, and make no account", async () => {
    const ana = await world.member("Ana");
    const { device, client } = await fresh(ana);
    await client.stop();
    const asked = device.asked.length;
    for (const work of [
      () => client.start(),
      () => client.login(credentials(ana.person)),
      () => client.register({ name: "Eva", email: `${randomUUID()}@example.com`, password: "correct horse" }),
    ]) expect(await problemOf(work)).toMatchObject({ code: "stopped", verdict: "fix" });
    expect(device.asked).toHaveLength(asked);
    // One that was never started, too.
    const other = await world.device("other");
    await other.launch();
    const { client: never } = other;
    await never.stop();
    expect(await codeOf(() => never.start())).toBe("stopped");
  });

  test("a log-in before start() starts the client", async () => {
    const ana = await world.member("Ana");
    const options = { url: world.server.url, storage: new MemoryStorage(), vault: new MemoryVault(), platform: "other" } as const;
    const client = new Client({ ...options, environment: { socket: (url, protocol) => new WebSocket(url, protocol) } });
    await client.login(credentials(ana.person));
    await until("it is online", () => client.connection.getSnapshot().status === "online");
    await client.stop();
  });

  test("a debug callback that throws keeps nobody from being online", async () => {
    const ana = await world.member("Ana");
    const device = await world.device("phone");
    let told = 0;
    const client = await device.launch({
      debug: () => {
        told += 1;
        throw new Error("a log that fails");
      },
    });
    await client.login(credentials(ana.person));
    await device.online();
    expect(told).toBeGreaterThan(0);
  });

  test("the debug log has frames by type in both directions, states, failed attempts and error codes, and nothing else", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const device = await world.device("phone");
    const events: DebugEvent[] = [];
    const client = await device.launch({ debug: (event) => events.push(event) });
    await client.login(credentials(ana.person));
    await device.online();
    const chat = client.conversation({ member: ben.person.id });
    chat.messages.subscribe(() => undefined);
    await chat.send("a secret");
    await shows(chat, "it is sent", () => statusOf(chat, "a secret") === "sent");
    await client.conversation({ conversation: "0".repeat(24) }).send("into nothing");
    await until("it was refused", () => events.some(({ details }) => details?.["code"] === "conversation_not_found"));
    device.proxy.reach = "refused";
    device.proxy.cut();
    client.wake();
    await until("it has failed to connect", () => events.filter(({ what }) => what === "closed").length > 1);
    const has = (what: string, details: object) => expect(events).toContainEqual(expect.objectContaining({ what, details: expect.objectContaining(details) as unknown }));
    for (const type of ["hello", "message.send"]) has("sent", { type });
    for (const type of ["welcome", "sync.done", "message.accepted"]) has("received", { type });
    has("received", { type: "error", code: "conversation_not_found" });
    for (const status of ["connecting", "syncing", "online"]) has("state", { status });
    has("session", { status: "signed_in" });
    const text = JSON.stringify(events);
    for (const secret of ["a secret", "into nothing", "Ana", ana.person.email, device.accessToken ?? "?"]) expect(text).not.toContain(secret);
  });

  for (const damage of ["{", "null", "5", "{}"]) {
    test(`an own record that is damaged (${damage}) keeps nobody out`, async () => {
      const ana = await world.member("Ana");
      const { device } = await fresh(ana);
      await device.online();
      await device.stop();
      device.disk.apply({ put: new Map([[`${ana.person.id}/me`, damage]]) });
      const client = await device.launch();
      await device.online();
      expect(client.session.getSnapshot()).toMatchObject({ status: "signed_in", id: ana.person.id, member: { name: "Ana" } });
    });
  }

  test("unread never says more than 1,000", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    for (let n = 0; n < 1000; n += 50) await Promise.all(Array.from({ length: 50 }, (_, k) => ben.send(ana.person.id, `w-b-${n + k}`)));
    const { device, client } = await fresh(ana);
    await device.online();
    const chat = client.conversation({ member: ben.person.id });
    await until("1,000, and no more", () => chat.info.getSnapshot().unread === 1000);
    expect(chat.info.getSnapshot().unreadMore).toBe(false);
    await ben.send(ana.person.id, "w-b-1000");
    await until("there are more", () => chat.info.getSnapshot().unreadMore);
    expect(chat.info.getSnapshot().unread).toBe(1000);
    expect(client.unread.getSnapshot()).toEqual({ total: 1000, more: true });
    expect(client.conversations.getSnapshot().conversations[0]).toBe(chat.info.getSnapshot());
  });

  test("after a log-out handles show nothing; after the end of a session what waits is still counted", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device, client } = await fresh(ana);
    await device.online();
    const chat = client.conversation({ member: ben.person.id });
    chat.messages.subscribe(() => undefined);
    await chat.send("w-a-0");
    await shows(chat, "it is sent", () => statusOf(chat, "w-a-0") === "sent");
    device.proxy.reach = "refused";
    device.proxy.cut();
    await until("the client knows", () => client.connection.getSnapshot().status !== "online");
    await chat.send("w-a-1");
    await ask(world.server, "POST", "/api/auth/logout", { token: device.accessToken ?? "" });
    device.proxy.heal();
    client.wake();
    await until("the session is over", () => client.session.getSnapshot().status === "signed_out");
    expect(client.session.getSnapshot()).toMatchObject({ reason: "session_over" });
    expect(client.unsent()).toBe(1);
    expect(chat.messages.getSnapshot()).toMatchObject({ messages: [], ready: false });
    expect(chat.info.getSnapshot().last).toBeUndefined();
    await client.login(credentials(ana.person));
    await until("it is sent", () => client.unsent() === 0);
    const again = client.conversation({ member: ben.person.id });
    again.messages.subscribe(() => undefined);
    await shows(again, "both are there", ({ messages }) => messages.length === 2);
    await client.logout();
    expect(again.messages.getSnapshot().messages).toEqual([]);
    expect(again.info.getSnapshot()).toMatchObject({ unread: 0, lastAt: 0 });
    expect(client.unsent()).toBe(0);
  });

  test("a message that waits says why", async () => {
    await world.server.restart({ RATE_MESSAGES: "1", RATE_MESSAGES_BURST: "1" });
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device, client } = await fresh(ana);
    await device.online();
    const chat = client.conversation({ member: ben.person.id });
    chat.messages.subscribe(() => undefined);
    const refused = new Set<string>();
    const silent: string[] = [];
    chat.messages.subscribe(() => {
      for (const { key, status, problem } of chat.messages.getSnapshot().messages) {
        if (problem) refused.add(key);
        else if (status === "sending" && refused.has(key)) silent.push(key);
      }
    });
    for (let n = 0; n < 4; n += 1) await chat.send(`w-a-${n}`);
    await shows(chat, "it says why", ({ messages }) => messages.some(({ status, problem }) => status === "queued" && problem?.code === "rate_limited"));
    await shows(chat, "all are sent", ({ messages }) => messages.every(({ status, problem }) => status === "sent" && !problem));
    expect(silent, "why a message was not taken is shown while it is tried again").toEqual([]);
  });
});

describe("a backup of the server that was restored", () => {
  /** Two members have talked, the server was backed up, they went on, and Ana has begun to talk with Eva; then the backup is restored. */
  async function restored() {
    const [ana, ben, eva] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva")];
    await ben.send(ana.person.id, "w-b-0");
    const { device, client } = await fresh(ana);
    await device.online();
    const [toBen, toEva] = [ben, eva].map(({ person }) => client.conversation({ member: person.id }));
    if (!toBen || !toEva) throw new Error("no handles");
    for (const handle of [toBen, toEva]) handle.messages.subscribe(() => undefined);
    const { server } = world;
    const [database, backup] = [join(server.folder, "club.db"), join(server.folder, "backup")];
    await server.stop();
    copyFileSync(database, backup);
    await server.launch();
    await device.online();
    for (const handle of [toBen, toEva]) {
      await handle.send("w-a-0");
      await shows(handle, "it is sent", () => statusOf(handle, "w-a-0") === "sent");
    }
    await server.stop();
    for (const suffix of ["-wal", "-shm"]) rmSync(database + suffix, { force: true });
    copyFileSync(backup, database);
    await server.launch();
    client.wake();
    await device.online();
    return { ana, ben, eva, device, client, toBen, toEva };
  }

  test("a message that waits does not answer what stands now where something else stood", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    await ben.send(ana.person.id, "w-b-0");
    const { device, client } = await fresh(ana);
    await device.online();
    const chat = client.conversation({ member: ben.person.id });
    chat.messages.subscribe(() => undefined);
    const { server } = world;
    const [database, backup] = [join(server.folder, "club.db"), join(server.folder, "backup")];
    await server.stop();
    copyFileSync(database, backup);
    await server.launch();
    await device.online();
    await ben.send(ana.person.id, "w-b-1");
    await shows(chat, "the question", () => contents(chat).join() === "w-b-0,w-b-1");
    await server.stop();
    await chat.send("w-a-0", { replyTo: 2 });
    for (const suffix of ["-wal", "-shm"]) rmSync(database + suffix, { force: true });
    copyFileSync(backup, database);
    await server.launch();
    await ben.send(ana.person.id, "w-b-2");
    client.wake();
    await device.online();
    await shows(chat, "it is sent", () => statusOf(chat, "w-a-0") === "sent");
    const sent = (await ana.messages(ben.person.id)).find(({ content }) => content === "w-a-0");
    expect(sent?.reply_to).toBeUndefined();
  });

  test("what the server has is shown, and both conversations go on, also the one that it does not know any more", async () => {
    const { ana, ben, eva, toBen, toEva } = await restored();
    await shows(toBen, "what the backup has", () => contents(toBen).join() === "w-b-0");
    await shows(toEva, "nothing", ({ messages }) => messages.length === 0);
    for (const handle of [toBen, toEva]) {
      await handle.send("w-a-1");
      await shows(handle, "it is sent", () => statusOf(handle, "w-a-1") === "sent");
    }
    expect((await ana.messages(eva.person.id)).map(({ content }) => content)).toEqual(["w-a-1"]);
    expect((await ana.messages(ben.person.id)).map(({ content }) => content)).toEqual(["w-b-0", "w-a-1"]);
  });
});

test("a reply is told to who has asked, and not to extensions", async () => {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const { device, client } = await fresh(ana);
  const pushed: string[] = [];
  const requested: string[] = [];
  let core: Core | undefined;
  const extension: Extension = {
    begin: async (given) => void (core = given),
    pushed: ({ type }) => void pushed.push(type),
    online: () => undefined,
    stop: () => undefined,
  };
  client.extend(() => extension);
  await device.online();
  const { conversation_id: id } = await ben.send(ana.person.id, "w-b-1");
  const handle = client.conversation({ member: ben.person.id });
  await until("it is there", () => handle.info.getSnapshot().unread === 1);
  handle.markRead();
  await handle.send("w-a-1");
  await until("it is sent", () => client.unsent() === 0);
  if (!core) throw new Error("it has not begun");
  for (const frame of [{ type: "history.get", conversation: id, limit: 10 }, { type: "conversations.list", limit: 10 }, { type: "conversation.configure", conversation: id, settings: { notify: "mentions" } }] as ClientFrame[]) {
    requested.push((await core.connection.request<"history" | "conversations" | "conversation.settings">(frame)).type);
  }
  expect(requested).toEqual(["history", "conversations", "conversation.settings"]);
  expect(pushed).toContain("entry");
  expect(pushed.filter((type) => ["history", "conversations", "ok", "message.accepted"].includes(type))).toEqual([]);
  // Settings are news, whoever has asked.
  await until("they are taken", () => handle.info.getSnapshot().settings?.notify === "mentions");
});
