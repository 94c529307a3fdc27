import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { Client } from "../src/index.js";
import { MembersBookProvider, useConversationInfo, useMessages, useSend, useTyping } from "../src/react.js";
import type { Target } from "../src/types.js";
import { until } from "./support/until.js";
import { credentials, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(() => world.end(), 20_000);

/** What a screen of a conversation shows, and how it sends. */
function screen(client: Client, target: Target | string) {
  let send: (content: string) => Promise<string> = () => Promise.reject(new Error("not rendered"));
  let type: (active: boolean) => void = () => undefined;
  let read: () => void = () => undefined;
  const Screen = () => {
    const { messages, ready, markRead } = useMessages(target);
    read = markRead;
    const { key, unread } = useConversationInfo(target);
    const { typing, setTyping } = useTyping(target);
    type = setTyping;
    send = useSend(target).send;
    return createElement("p", null, JSON.stringify({ contents: messages.map(({ content }) => content), ready, key, unread, typing }));
  };
  const html = renderToString(createElement(MembersBookProvider, { client }, createElement(Screen)));
  return { shown: JSON.parse(html.replace(/<\/?p>/g, "").replaceAll("&quot;", '"')) as object, send, type, read };
}

test("the hooks of a conversation show nothing while nobody is signed in, and refuse to send", async () => {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const device = await world.device("phone");
  const client = await device.launch();
  const target = { member: ben.person.id };
  const key = `m_${ben.person.id}`;
  const nothing = { contents: [], ready: false, key, unread: 0, typing: [] };
  for (const asked of [target, key]) {
    const { shown, send, read } = screen(client, asked);
    read();
    expect(shown).toEqual(nothing);
    await expect(send("hello")).rejects.toMatchObject({ code: "token_missing" });
  }
  await client.login(credentials(ana.person));
  await device.online();
  const chat = client.conversation(target);
  chat.messages.subscribe(() => undefined);
  await screen(client, key).send("hello");
  await until("it is shown", () => chat.messages.getSnapshot().messages[0]?.status === "sent");
  expect(screen(client, target).shown).toEqual({ ...nothing, contents: ["hello"], ready: true });
  await ben.send(ana.person.id, "hello, too");
  await until("it is unread", () => client.unread.getSnapshot().total === 1);
  screen(client, target).read();
  expect(client.unread.getSnapshot().total).toBe(0);
  await client.logout();
  expect(screen(client, key).shown).toEqual(nothing);
});

test("typing is said and shown by the hook", async () => {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
  const [there, back] = [{ member: ben.person.id }, { member: ana.person.id }];
  await a.device.client.conversation(there).send("hello");
  const typing = () => screen(b.device.client, back).shown;
  await until("the message is there", () => b.device.client.conversations.getSnapshot().conversations.length === 1);
  expect(typing()).toMatchObject({ typing: [] });
  const { type } = screen(a.device.client, `m_${ben.person.id}`);
  type(true);
  await until("it is shown", () => JSON.stringify(typing()).includes(`"typing":["${ana.person.id}"]`), { explain: typing });
  type(false);
  await until("it ends", () => JSON.stringify(typing()).includes('"typing":[]'), { ms: 4_000, explain: typing });
});
