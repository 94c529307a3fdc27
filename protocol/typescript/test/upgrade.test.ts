import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Keys, SCHEMA_KEY, SCHEMA_VERSION } from "../src/records.js";
import { downgrade } from "./support/downgrade.js";
import { until } from "./support/until.js";
import { contents, credentials, shows, statusOf, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(() => world.end(), 20_000);

test("what a version before has passed over comes with the first sync: its cursor stood for pushes that it did not know", async () => {
  const [ana, ben, eva] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva")];
  const device = await world.device("phone");
  let client = await device.launch();
  await client.login(credentials(ana.person));
  await device.online();
  const keys = new Keys(ana.person.id);
  const kept = () => [...device.disk.range(...keys.conversations), ...device.disk.range(...keys.entries)];
  await ben.send(ana.person.id, "w-b-1");
  await until("it is there", () => client.unread.getSnapshot().total === 1);
  await device.stop();
  const before = kept();

  // It is told of these, and what it has kept is as it was: with the cursor of after them, and with a message that waits.
  await ben.send(ana.person.id, "w-b-2");
  await eva.send(ana.person.id, "w-e-1");
  client = await device.launch();
  await device.online();
  const said = () => device.disk.range(...keys.conversations).filter(([, value]) => /"delivered":[12]/.test(value)).length;
  await until("all are there, and nothing of them changes any more", () => client.unread.getSnapshot().total === 3 && said() === 2);
  device.proxy.cut();
  await until("it is offline", () => client.connection.getSnapshot().status !== "online");
  await device.online();
  device.proxy.reach = "refused";
  device.proxy.cut();
  await until("it is offline", () => client.connection.getSnapshot().status !== "online");
  await client.conversation({ member: ben.person.id }).send("w-a-1");
  await device.stop();
  const put = new Map<string, string | null>(kept().map(([key]) => [key, null]));
  for (const [key, value] of before) put.set(key, value);
  device.disk.apply({ put });
  downgrade(device.disk);
  const old = `${ana.person.id}/cursor`;
  expect([device.disk.get(SCHEMA_KEY), device.disk.get(old) !== undefined, device.disk.get(keys.cursor)]).toEqual(["1", true, undefined]);

  // Before the first sync everything is there that was kept.
  client = await device.launch();
  expect(device.disk.get(SCHEMA_KEY)).toBe(String(SCHEMA_VERSION));
  expect(client.session.getSnapshot()).toMatchObject({ status: "signed_in", id: ana.person.id });
  const [toBen, toEva] = [ben, eva].map(({ person }) => client.conversation({ member: person.id }));
  if (!toBen || !toEva) throw new Error("no handles");
  for (const handle of [toBen, toEva]) handle.messages.subscribe(() => undefined);
  await shows(toBen, "what was kept", () => contents(toBen).join() === "w-b-1,w-a-1");
  expect([client.unsent(), client.unread.getSnapshot().total]).toEqual([1, 1]);

  device.proxy.heal();
  device.proxy.reach = "up";
  client.wake();
  await device.online();
  await shows(toBen, "all is there, and sent", () => contents(toBen).join() === "w-b-1,w-b-2,w-a-1" && statusOf(toBen, "w-a-1") === "sent");
  await shows(toEva, "all is there", () => contents(toEva).join() === "w-e-1");
  expect([client.unsent(), client.unread.getSnapshot().total]).toEqual([0, 3]);
  await device.stop();
  expect(device.disk.get(keys.cursor)).toBeDefined();
});
