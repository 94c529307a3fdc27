import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { MembersBookError } from "../src/index.js";
import { MembersBookProvider, useAnswered } from "../src/react.js";
import { Keys } from "../src/records.js";
import type { ConversationHandle } from "../src/types.js";
import type { Reader } from "./support/reader.js";
import { contents, credentials, shows, statusOf, talk, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(() => world.end(), 20_000);

/** What each message that is shown answers. */
const answered = (handle: ConversationHandle) => handle.messages.getSnapshot().messages.map(({ replyTo }) => replyTo);

async function pair(): Promise<[ana: Reader, ben: Reader]> {
  return [await world.member("Ana"), await world.member("Ben")];
}

test("what a message answers is shown at once and on every device, and by the server", async () => {
  const [ana, ben] = await pair();
  const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
  const [toBen, toAna] = [talk(a, ben), talk(b, ana)];
  await toBen.send("w-a-1");
  await shows(toAna, "it is there", ({ messages }) => messages.length === 1);
  await toAna.send("w-b-1", { replyTo: 1 });
  expect(answered(toAna)).toEqual([undefined, 1]);
  await shows(toBen, "the answer is there", ({ messages }) => messages.length === 2);
  await toBen.send("w-a-2", { replyTo: undefined });
  await toBen.send("w-a-3", { replyTo: 2 });
  await shows(toAna, "all are there", ({ messages }) => messages.length === 4);
  for (const handle of [toBen, toAna]) expect(answered(handle)).toEqual([undefined, 1, undefined, 2]);
  expect((await ana.messages(ben.person.id)).map(({ reply_to }) => reply_to)).toEqual([undefined, 1, undefined, 2]);
  expect(toBen.info.getSnapshot().last).toMatchObject({ content: "w-a-3", replyTo: 2 });
  await world.settled();
});

test("an answer that waits for a connection keeps what it answers, whatever happens to the app", async () => {
  const [ana, ben] = await pair();
  await ben.send(ana.person.id, "w-b-1");
  const device = await world.device("phone");
  let client = await device.launch();
  await client.login(credentials(ana.person));
  await device.online();
  device.proxy.reach = "refused";
  device.proxy.cut();
  await client.conversation({ member: ben.person.id }).send("w-a-1", { replyTo: 1 });
  await client.conversation({ member: ben.person.id }).send("w-a-2", { replyTo: 1 });
  await device.stop();
  // What of it is damaged is not sent, and the message is.
  const [, second] = device.disk.range(...new Keys(ana.person.id).outbox);
  if (!second) throw new Error("no second message");
  const [key, value] = second;
  expect(JSON.parse(value)).toMatchObject({ content: "w-a-2", replyTo: 1 });
  device.disk.apply({ put: new Map([[key, value.replace(`"replyTo":1`, `"replyTo":"x"`)]]) });
  client = await device.launch();
  const handle = client.conversation({ member: ben.person.id });
  handle.messages.subscribe(() => undefined);
  await shows(handle, "both wait", ({ messages }) => messages.length === 3);
  expect(answered(handle)).toEqual([undefined, 1, undefined]);
  device.proxy.heal();
  client.wake();
  await shows(handle, "both are sent", () => statusOf(handle, "w-a-2") === "sent");
  expect((await ana.messages(ben.person.id)).map(({ content, reply_to }) => [content, reply_to])).toEqual([["w-b-1", undefined], ["w-a-1", 1], ["w-a-2", undefined]]);
});

test("an answer to what is not there is refused for good, and sent again as a message that answers nothing", async () => {
  const [ana, ben] = await pair();
  const a = await world.signedIn(ana, "a");
  const handle = talk(a, ben);
  await handle.send("w-a-1");
  const key = await handle.send("w-a-2", { replyTo: 9 });
  await shows(handle, "it has failed", () => statusOf(handle, "w-a-2") === "failed");
  const [, failed] = handle.messages.getSnapshot().messages;
  expect(failed).toMatchObject({ replyTo: 9, problem: { code: "message_not_found", verdict: "fix", field: "reply_to" } });
  await handle.retry(key);
  await shows(handle, "it is sent", () => statusOf(handle, "w-a-2") === "sent");
  expect(answered(handle)).toEqual([undefined, undefined]);
  for (const replyTo of [0, -1, 1.5, Number.NaN, "1" as never]) await expect(handle.send("w-a-3", { replyTo })).rejects.toThrow(MembersBookError);
  expect(contents(handle)).toEqual(["w-a-1", "w-a-2"]);
});

test("a message is found among those that are loaded, on the device, and at the server", async () => {
  const [ana, ben] = await pair();
  for (let n = 1; n <= 70; n += 1) await ben.send(ana.person.id, `w-b-${n}`);
  const a = await world.signedIn(ana, "a");
  const { device } = a;
  const handle = talk(a, ben);
  await shows(handle, "it is there", ({ messages }) => messages.length > 0);
  const first = handle.messages.getSnapshot().messages[0]?.seq ?? 0;
  expect(first).toBeGreaterThan(1);
  expect(await handle.find(70)).toEqual(handle.messages.getSnapshot().messages.at(-1));
  const asked: unknown[] = [];
  device.onSent = (frame) => frame.type === "history.get" && asked.push(frame.before);
  expect(await handle.find(3)).toMatchObject({ seq: 3, content: "w-b-3", own: false });
  expect(await handle.find(71)).toBeUndefined();
  expect(asked).toEqual([4, 72]);
  expect(handle.messages.getSnapshot().messages[0]?.seq).toBe(first);

  // Where nobody looks at it, from what is stored.
  const hidden = device.client.conversation({ member: ben.person.id });
  await device.stop();
  const client = await device.launch();
  await device.online();
  asked.length = 0;
  const again = client.conversation(client.target(hidden.key));
  expect(await again.find(first)).toMatchObject({ seq: first, content: `w-b-${first}` });
  expect(asked).toEqual([]);
  device.proxy.reach = "refused";
  device.proxy.cut();
  await expect(again.find(3)).rejects.toThrow(MembersBookError);
});

test("the hook has what is answered if it is loaded", async () => {
  const [ana, ben] = await pair();
  for (let n = 1; n <= 5; n += 1) await ben.send(ana.person.id, `w-b-${n}`);
  const a = await world.signedIn(ana, "a");
  const target = { member: ben.person.id };
  const handle = talk(a, ben);
  await shows(handle, "all are there", ({ messages }) => messages.length === 5);
  const Quote = ({ of }: { of: number | undefined }) => useAnswered(target, of).message?.content ?? "none";
  const drawn = (of: number | undefined) => renderToString(createElement(MembersBookProvider, { client: a.device.client }, createElement(Quote, { of })));
  expect([1, 3, 5, 6, undefined].map(drawn)).toEqual(["w-b-1", "w-b-3", "w-b-5", "none", "none"]);
});
