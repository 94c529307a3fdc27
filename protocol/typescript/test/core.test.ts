import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { MembersBookError } from "../src/errors.js";
import type { Client } from "../src/index.js";
import { Observer } from "./support/checker.js";
import type { Device } from "./support/device.js";
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
      expect((await ana.messages(ben.person.id)).map(({ content }) => content)).toEqual(contents(one));
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
      const releases = of.map((id) => client.presence(id).subscribe(() => undefined));
      return () => releases.forEach((release) => release());
    };
    const known = (of: readonly string[]) => of.filter((id) => client.presence(id).getSnapshot().status !== "unknown").length;
    const all = (of: readonly string[], ms = 5_000) => until(`${of.length} are known`, () => known(of) === of.length, { ms, explain: () => [known(of), frames] });
    return { device, ids, watch, known, all, frames, most: () => most };
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
    const { ids, all, known } = await crowd(1);
    const [id = ""] = ids;
    const client = world.devices[0]?.client;
    const presence = client?.presence(id);
    presence?.subscribe(() => undefined)();
    expect(client?.presence(id)).toBe(presence);
    const release = presence?.subscribe(() => undefined);
    await all(ids);
    release?.();
    await until("it is given up", () => known(ids) === 0, { ms: 15_000 });
    presence?.subscribe(() => undefined);
    await all(ids);
  });
});

void Observer;
void codeOf;
