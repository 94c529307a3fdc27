import { JSDOM } from "jsdom";
import { createElement, memo } from "react";
import type { ReactElement } from "react";
import { createRoot } from "react-dom/client";
import type { Root } from "react-dom/client";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";

import type { Client } from "../src/index.js";
import { MembersBookProvider, useConversations, useMember, useMessages, usePresence, useSession, useUnread } from "../src/react.js";
import type { MessageView, Target } from "../src/types.js";
import { until } from "./support/until.js";
import { credentials, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

const page = new JSDOM('<div id="root"></div>');
beforeAll(() => {
  vi.stubGlobal("window", page.window);
  vi.stubGlobal("document", page.window.document);
});

let world: World;
let root: Root;
let element: HTMLElement;
beforeEach(async () => {
  world = await World.make();
  element = page.window.document.createElement("div");
  page.window.document.body.append(element);
  root = createRoot(element);
}, 40_000);
afterEach(async () => {
  root.unmount();
  element.remove();
  await world.end();
}, 20_000);

/** Draws something with the client around it. */
const draw = (client: Client, what: ReactElement) => root.render(createElement(MembersBookProvider, { client }, what));

/** Waits until the page shows a text. */
const shows = (text: string) => until(`the page shows ${text}`, () => element.textContent === text, { explain: () => element.innerHTML });

test("a list of messages draws one row for a new message, and all of another conversation when it is changed", async () => {
  const [ana, ben, eva] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva")];
  const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
  const [toBen, toEva] = [{ member: ben.person.id }, { member: eva.person.id }];
  for (const word of ["one", "two", "three"]) await a.device.client.conversation(toBen).send(word);
  await a.device.client.conversation(toEva).send("for Eva");
  const drawn = new Map<string, number>();
  const Row = memo(({ message }: { message: MessageView }) => {
    drawn.set(message.content, (drawn.get(message.content) ?? 0) + 1);
    return createElement("li", null, message.content);
  });
  const List = ({ target }: { target: Target }) =>
    createElement("ul", null, useMessages(target).messages.map((message) => createElement(Row, { key: message.key, message })));
  await until("all are sent", () => a.device.client.conversation(toBen).messages.getSnapshot().messages.every(({ status }) => status === "delivered"));
  draw(a.device.client, createElement(List, { target: toBen }));
  await shows("onetwothree");
  drawn.clear();
  await b.device.client.conversation({ member: ana.person.id }).send("four");
  await shows("onetwothreefour");
  expect([...drawn.keys()]).toEqual(["four"]);
  draw(a.device.client, createElement(List, { target: toEva }));
  await shows("for Eva");
});

test("screens follow who is signed in, and what they leave is not listened to", async () => {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const b = await world.signedIn(ben, "b");
  const device = await world.device("phone");
  const client = await device.launch();
  const Screen = () => {
    const { status } = useSession();
    const { conversations } = useConversations();
    const { total } = useUnread();
    return createElement("p", null, `${status} ${conversations.length} ${total}`);
  };
  draw(client, createElement(Screen));
  await shows("signed_out 0 0");
  await client.login(credentials(ana.person));
  await device.online();
  await b.device.client.conversation({ member: ana.person.id }).send("hello");
  await shows("signed_in 1 1");
  draw(client, createElement("p", null, "elsewhere"));
  await client.logout();
  expect(element.textContent).toBe("elsewhere");
  draw(client, createElement(Screen));
  await shows("signed_out 0 0");
});

test("how somebody is and what they are called is shown as long as a screen shows it", async () => {
  const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
  const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
  await b.device.client.conversation({ member: ana.person.id }).send("hello");
  const Who = ({ member }: { member: string }) => createElement("p", null, `${useMember(member)?.name ?? "?"} ${usePresence(member).status ?? "?"}`);
  draw(a.device.client, createElement(Who, { member: ben.person.id }));
  await shows("Ben online");
  await b.device.kill();
  await shows("Ben offline");
});
