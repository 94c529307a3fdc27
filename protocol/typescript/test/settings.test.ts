import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Conversations } from "../src/conversations.js";
import type { Client } from "../src/index.js";
import type { ConversationSettings } from "../src/protocol.js";
import { MembersBookProvider, useConversationSettings } from "../src/react.js";
import type { Device } from "./support/device.js";
import type { Reader } from "./support/reader.js";
import { until } from "./support/until.js";
import { credentials, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

const MUTED: ConversationSettings = { notify: "all", muted_until: "9999-01-01T00:00:00.000Z" };
const NOTHING: ConversationSettings = { notify: "nothing" };

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(() => world.end(), 20_000);

/** Two members who have talked, and two devices of the first one. */
async function devices(): Promise<{ ana: Reader; ben: Reader; phone: Device; tablet: Device }> {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  await ben.send(ana.person.id, "w-b-0");
  const [phone, tablet] = [await world.device("phone"), await world.device("tablet")];
  for (const device of [phone, tablet]) {
    await device.launch();
    await device.client.login(credentials(ana.person));
    await device.online();
  }
  return { ana, ben, phone, tablet };
}

/** A device sets what its member wants. */
async function configure({ client }: Device, { person }: Reader, settings: ConversationSettings): Promise<void> {
  const { id } = client.conversation({ member: person.id }).info.getSnapshot();
  if (!id) throw new Error("there is no conversation");
  await new Conversations(client.api).configure(id, settings);
}

function settingsAt(client: Client, { person }: Reader): ConversationSettings | undefined {
  return client.conversation({ member: person.id }).info.getSnapshot().settings;
}

async function shown(device: Device, other: Reader, settings: ConversationSettings | undefined): Promise<void> {
  await until(`${device.name} shows ${JSON.stringify(settings)}`, () => JSON.stringify(settingsAt(device.client, other)) === JSON.stringify(settings), {
    explain: () => JSON.stringify(settingsAt(device.client, other)),
  });
}

test("what is set on one device is shown on the other: at once, after it was away, and without a network", async () => {
  const { ben, phone, tablet } = await devices();
  expect(settingsAt(phone.client, ben)).toBeUndefined();
  await configure(phone, ben, MUTED);
  await shown(phone, ben, MUTED);
  await shown(tablet, ben, MUTED);
  expect(tablet.client.conversations.getSnapshot().conversations[0]?.settings).toEqual(MUTED);
  tablet.kill("applied");
  await configure(phone, ben, NOTHING);
  tablet.proxy.reach = "dead";
  await tablet.launch();
  await shown(tablet, ben, MUTED);
  tablet.proxy.cut();
  tablet.proxy.reach = "up";
  tablet.client.wake();
  await shown(tablet, ben, NOTHING);
  // The other member has settings of their own.
  const bens = await world.device("bens");
  await bens.launch();
  await bens.client.login(credentials(ben.person));
  await bens.online();
  expect(bens.client.conversations.getSnapshot().conversations[0]?.settings).toBeUndefined();
});

test("a change begins with what the one before it has set, whatever the connection brings meanwhile", async () => {
  const { ben, phone } = await devices();
  const chat = phone.client.conversation({ member: ben.person.id });
  const { id } = chat.info.getSnapshot();
  if (!id) throw new Error("there is no conversation");
  // As an app does: a part, and the rest as it is shown.
  const change = async (part: Partial<ConversationSettings>): Promise<void> => {
    const wanted: ConversationSettings = { notify: "all", ...chat.info.getSnapshot().settings, ...part };
    chat.configured(await new Conversations(phone.client.api).configure(id, wanted));
  };
  phone.change = (frame) => (frame.type === "conversation.settings" ? { type: "late" } : frame);
  await change({ archived: true });
  expect(phone.client.conversations.getSnapshot().conversations[0]?.settings).toEqual({ notify: "all", archived: true });
  await change({ pinned: true });
  expect(settingsAt(phone.client, ben)).toEqual({ notify: "all", archived: true, pinned: true });
  phone.change = undefined;
});

test("what comes late is not taken for the newest, and what is none is passed over", async () => {
  const { ben, phone, tablet } = await devices();
  const chat = phone.client.conversation({ member: ben.person.id });
  const garbled: ConversationSettings = { notify: "all", muted_until: "2099-01-01T00:00:00.000Z" };
  let first: unknown;
  tablet.change = (frame) => {
    if (frame.type !== "conversation.settings") return frame;
    first ??= frame;
    // In the place of a later one the first one comes once more, and in that of another one nothing that could be taken.
    if (frame.settings.notify === "mentions") return first;
    return frame.settings.muted_until === garbled.muted_until ? { ...frame, settings: { notify: 5 }, revision: "many" } : frame;
  };
  await configure(phone, ben, MUTED);
  await shown(tablet, ben, MUTED);
  await configure(phone, ben, NOTHING);
  await shown(tablet, ben, NOTHING);
  await configure(phone, ben, { notify: "mentions" });
  await configure(phone, ben, garbled);
  await chat.send("w-a-0");
  await until("what was said after it is there", () => tablet.client.conversation({ member: ben.person.id }).info.getSnapshot().last?.content === "w-a-0");
  expect(settingsAt(tablet.client, ben)).toEqual(NOTHING);
  // The next connection brings what they are.
  tablet.kill("applied");
  await tablet.launch();
  await shown(tablet, ben, garbled);
});

test("what a version before has kept has them after the first sync", async () => {
  const { ana, ben, phone, tablet } = await devices();
  await configure(phone, ben, MUTED);
  await shown(tablet, ben, MUTED);
  await tablet.stop();
  // As it was kept: without them, and with a cursor of after they were set.
  const key = `${ana.person.id}/c/m_${ben.person.id}`;
  const record = JSON.parse(tablet.disk.get(key) ?? "{}") as Record<string, unknown>;
  delete record["settings"];
  delete record["revision"];
  tablet.disk.apply({ put: new Map([[key, JSON.stringify(record)]]) });
  await tablet.launch();
  await shown(tablet, ben, MUTED);
});

test("after a backup of the server was restored, what it has is shown", async () => {
  const { ben, phone } = await devices();
  await configure(phone, ben, NOTHING);
  const { server } = world;
  const [database, backup] = [join(server.folder, "club.db"), join(server.folder, "backup")];
  await server.stop();
  copyFileSync(database, backup);
  await server.launch();
  await phone.online();
  await configure(phone, ben, MUTED);
  await configure(phone, ben, { notify: "mentions" });
  await shown(phone, ben, { notify: "mentions" });
  await server.stop();
  for (const suffix of ["-wal", "-shm"]) rmSync(database + suffix, { force: true });
  copyFileSync(backup, database);
  await server.launch();
  phone.client.wake();
  await phone.online();
  await shown(phone, ben, NOTHING);
});

test("the hook shows them, and sets them", async () => {
  const { ben, phone, tablet } = await devices();
  const eva = await world.member("Eva");
  const hook = (device: Device, other = ben) => {
    let got: ReturnType<typeof useConversationSettings> | undefined;
    const Screen = () => {
      got = useConversationSettings({ member: other.person.id });
      return null;
    };
    renderToString(createElement(MembersBookProvider, { client: device.client }, createElement(Screen)));
    if (!got) throw new Error("not rendered");
    return got;
  };
  expect(hook(phone).settings).toEqual({ notify: "all" });
  await expect(hook(phone, eva).configure(NOTHING)).rejects.toMatchObject({ code: "validation_failed" });
  await hook(phone).configure(NOTHING);
  await shown(phone, ben, NOTHING);
  expect(hook(phone).settings).toEqual(NOTHING);
  await shown(tablet, ben, NOTHING);
  expect(hook(tablet).settings).toEqual(NOTHING);
});
