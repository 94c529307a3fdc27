import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Backoff } from "../src/backoff.js";
import { Members } from "../src/members.js";
import { People } from "../src/people.js";
import type { ServerFrame } from "../src/protocol.js";
import { pass, until } from "./support/until.js";
import { credentials, shows, talk, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(() => world.end(), 20_000);

/** Changes what the server says of the newest message. */
function spoil(frame: ServerFrame, changes: object): unknown {
  if (frame.type === "entry") return { ...frame, entry: { ...frame.entry, ...changes } };
  if (frame.type !== "sync") return frame;
  return { ...frame, conversations: frame.conversations.map((each) => ({ ...each, entries: each.entries.map((entry) => ({ ...entry, ...changes })) })) };
}

describe("a server that says what it must not", () => {
  for (const changes of [{ at: "garbage" }, { at: 5 }, { content: {} }, { content: null }, { sender: 7 }, { content: "x".repeat(3_000_000) }, { id: null, client_id: null }]) {
    test(`a message with ${JSON.stringify(changes).slice(0, 40)} is shown as it can be, and stops nothing`, async () => {
      const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
      const { device } = await world.signedIn(ana, "a");
      const chat = device.client.conversation({ member: ben.person.id });
      chat.messages.subscribe(() => undefined);
      await ben.send(ana.person.id, "w-b-1");
      await shows(chat, "the good one is there", ({ messages }) => messages.length === 1);
      device.change = (frame) => spoil(frame, changes);
      await ben.send(ana.person.id, "w-b-2");
      await shows(chat, "the bad one is there", ({ messages }) => messages.length === 2);
      device.change = undefined;
      await ben.send(ana.person.id, "w-b-3");
      await shows(chat, "the next one is there", ({ messages }) => messages.length === 3 && messages[2]?.content === "w-b-3");
      for (const { content, at, key } of chat.messages.getSnapshot().messages) {
        expect(typeof content).toBe("string");
        expect(content.length).toBeLessThanOrEqual(20_000);
        expect(Number.isFinite(at)).toBe(true);
        expect(key).toBeTruthy();
      }
      // And after a restart.
      await until("it is kept", () => device.disk.holds("w-b-3"));
      device.kill("applied");
      const client = await device.launch();
      const again = client.conversation({ member: ben.person.id });
      again.messages.subscribe(() => undefined);
      await shows(again, "all are there", ({ messages }) => messages.length === 3);
    });
  }

  test("an entry of a kind that is not known is kept as it came, up to a bound, and leaves no hole", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device } = await world.signedIn(ana, "a");
    const chat = device.client.conversation({ member: ben.person.id });
    chat.messages.subscribe(() => undefined);
    const poll = { kind: "poll", id: "p", question: { text: "w-b-2" }, choices: ["yes", "no"] };
    for (const [word, kind] of [["w-b-1", undefined], ["w-b-2", poll], ["w-b-3", { ...poll, choices: ["x".repeat(3_000_000)] }], ["w-b-4", undefined]] as const) {
      device.change = kind && ((frame) => (frame.type === "entry" ? { ...frame, entry: { ...kind, seq: frame.entry.seq, conversation: frame.entry.conversation } } : frame));
      await ben.send(ana.person.id, word);
      await until("it is known", () => chat.info.getSnapshot().lastAt > 0 && device.client.conversations.getSnapshot().conversations.length === 1);
      await until("it is kept", () => device.disk.range(`${ana.person.id}/e/`, `${ana.person.id}/e/~`).length === Number(word.slice(-1)));
    }
    await shows(chat, "the messages are there", ({ messages }) => messages.length === 2);
    const kept = () => device.disk.range(`${ana.person.id}/e/`, `${ana.person.id}/e/~`).map(([, value]) => JSON.parse(value) as Record<string, unknown>);
    expect(kept()[1]).toMatchObject({ ...poll, seq: 2 });
    expect(JSON.stringify(kept()[2]).length).toBeLessThan(20_000);
    expect(kept()[2]).toMatchObject({ kind: "poll", seq: 3 });
    await device.stop();
    device.proxy.reach = "refused";
    const client = await device.launch();
    const again = client.conversation({ member: ben.person.id });
    again.messages.subscribe(() => undefined);
    await shows(again, "the messages are there, without the server", ({ messages }) => messages.map(({ content }) => content).join() === "w-b-1,w-b-4");
    expect(Number.isFinite(again.info.getSnapshot().lastAt)).toBe(true);
  });

  test("a sync with a conversation that cannot be taken in: the others are, and it comes again with the next connection", async () => {
    const [ana, ben, eva] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva")];
    const { device } = await world.signedIn(ana, "a");
    device.proxy.reach = "refused";
    device.proxy.cut();
    await ben.send(ana.person.id, "w-b-1");
    await eva.send(ana.person.id, "w-e-1");
    device.change = (frame) => (frame.type === "sync" ? { ...frame, conversations: [null, { ...frame.conversations[0], members: "all" }, ...frame.conversations.slice(1)] } : frame);
    device.proxy.heal();
    device.proxy.reach = "up";
    device.client.wake();
    await until("one is there", () => device.client.conversations.getSnapshot().conversations.length === 1);
    await device.online();
    device.change = undefined;
    device.kill("applied");
    const client = await device.launch();
    await until("both are there", () => client.conversations.getSnapshot().conversations.length === 2);
    await world.settled();
  });

  test("presence and profiles that are none are passed over", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device } = await world.signedIn(ana, "a");
    device.change = (frame) => (frame.type === "presence.snapshot" ? { ...frame, members: frame.members.map((each) => ({ ...each, last_seen: "garbage" })) } : frame);
    const presence = new People(device.client).presence(ben.person.id);
    presence.subscribe(() => undefined);
    await until("it is known", () => presence.getSnapshot().status !== "unknown");
    expect(presence.getSnapshot().lastSeen).toBeUndefined();
  });

  test("an id that is none asks for nothing, and takes nothing from others", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device } = await world.signedIn(ana, "a");
    const watched: string[][] = [];
    device.onSent = (frame) => {
      if (frame.type === "presence.watch") watched.push([...frame.members]);
    };
    device.asked.length = 0;
    for (const id of ["", "me", "me/export", "x".repeat(300), "../admin"]) {
      new People(device.client).presence(id).subscribe(() => undefined);
      new People(device.client).member(id).subscribe(() => undefined);
      expect(() => device.client.target(id)).toThrow("This is no key of a conversation.");
      expect(() => device.client.target(`c_${id}`)).toThrow();
    }
    const presence = new People(device.client).presence(ben.person.id);
    presence.subscribe(() => undefined);
    await until("Ben's is known", () => presence.getSnapshot().status !== "unknown");
    expect(watched).toEqual([[ben.person.id]]);
    expect(device.asked).toEqual([]);
    await new Members(device.client.api).member("me/export").catch(() => undefined);
    expect(device.asked.at(-1)?.path).toBe("/api/members/me%2Fexport");
  });

  test("a watch that is refused as it is, is not said again", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device } = await world.signedIn(ana, "a");
    let watched = 0;
    device.onSent = (frame) => {
      if (frame.type === "presence.watch") watched += 1;
    };
    device.change = (frame) => (frame.type === "presence.snapshot" ? { type: "error", id: frame.id, code: "validation_failed", message: "no" } : frame);
    new People(device.client).presence(ben.person.id).subscribe(() => undefined);
    await until("it was asked", () => watched > 0);
    await pass(2_500);
    expect(watched).toBe(1);
  });

  for (const heartbeat of [3e9, 0, -5, "abc", null]) {
    test(`a heartbeat of ${heartbeat} ms is no flood`, async () => {
      const device = await world.device("a");
      const ana = await world.member("Ana");
      device.change = (frame) => (frame.type === "welcome" ? { ...frame, heartbeat_ms: heartbeat, limits: undefined } : frame);
      await device.launch();
      await device.client.login(credentials(ana.person));
      await device.online();
      let pings = 0;
      device.onSent = (frame) => {
        if (frame.type === "ping") pings += 1;
      };
      await pass(1_500);
      expect(pings).toBeLessThanOrEqual(2);
    });
  }

  test("a wait that a server asks for has bounds", () => {
    const backoff = new Backoff(() => 0);
    expect([3e9, Number.NaN, 0, -5, "abc", null].map((asked) => backoff.next(asked as number))).toEqual([3_600_000, 100, 100, 100, 100, 100]);
    const looked = new Backoff(() => 1, () => 5_000);
    expect(Array.from({ length: 8 }, () => looked.next()).at(-1)).toBe(5_000);
  });
});

describe("what is stored and is not as it should be", () => {
  test("is dropped, and comes again from the server", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const { device } = a;
    await ben.send(ana.person.id, "w-b-1");
    await a.send(talk(a, ben), ben.person.id, "w-a-1");
    await world.settled();
    await until("it is kept", () => device.disk.holds("w-b-1"));
    device.kill("applied");
    const spoiled = new Map<string, string>();
    for (const [key, value] of device.disk.range("0", "g")) {
      const kind = key.split("/")[1]?.replace(/\d+$/, "");
      const bad = { c: `{"members":[null],"last":5}`, e: value.replace(/"at":"[^"]*"/, `"at":"garbage"`), p: `{"id":5}`, me: "null", cursor: "5", o: "{" }[kind ?? ""];
      if (bad !== undefined) spoiled.set(key, bad);
    }
    expect(spoiled.size).toBeGreaterThan(4);
    spoiled.set(`${ana.person.id}/o/0000000000000001`, `{"content":{}}`);
    device.disk.apply({ put: spoiled });
    const client = await device.launch();
    await device.online();
    expect(client.session.getSnapshot()).toMatchObject({ status: "signed_in", member: { name: "Ana" } });
    talk(a, ben);
    await world.settled();
    expect(client.unsent()).toBe(0);
  });
});

test("a device too many is told that there are too many, and comes in when one has gone", async () => {
  await world.server.restart({ MAX_CONNECTIONS_PER_MEMBER: "1" });
  const ana = await world.member("Ana");
  const first = await world.signedIn(ana, "a");
  const second = await world.device("b");
  await second.launch();
  await second.client.login(credentials(ana.person));
  await until("it is told why", () => second.client.connection.getSnapshot().problem?.code === "too_many_connections", { explain: () => second.client.connection.getSnapshot() });
  expect(second.client.connection.getSnapshot().status).toBe("connecting");
  await first.device.stop();
  await until("it is in", () => {
    second.client.wake();
    return second.client.connection.getSnapshot().status === "online";
  }, { every: 500 });
  expect(second.client.connection.getSnapshot().problem).toBeUndefined();
});
