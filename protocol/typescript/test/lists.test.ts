import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Book } from "../src/book.js";
import { Conversations, listOf } from "../src/conversations.js";
import { platformEnvironment } from "../src/environment.js";
import { Journal } from "../src/journal.js";
import type { ClientFrame, ConversationSettings } from "../src/protocol.js";
import { MembersBookProvider, useConversations } from "../src/react.js";
import { Keys } from "../src/records.js";
import { MemoryStorage } from "../src/storage/memory.js";
import type { ConversationFilter, ConversationsState, ConversationView } from "../src/types.js";
import { Value } from "../src/value.js";
import type { Device } from "./support/device.js";
import type { Reader } from "./support/reader.js";
import { until } from "./support/until.js";
import { credentials, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

const ARCHIVED: ConversationSettings = { notify: "all", archived: true };
const PINNED: ConversationSettings = { notify: "all", pinned: true };
const MAIN: ConversationFilter = { archived: false };
const APART: ConversationFilter = { archived: true };

describe("a list", () => {
  const view = (key: string, settings?: Partial<ConversationSettings>, unread = 0): ConversationView => ({
    key, kind: "direct", others: [], lastAt: 0, unread, unreadMore: false, typing: [], ...(settings ? { settings: { notify: "all", ...settings } } : {}),
  });
  const keys = ({ conversations }: ConversationsState) => conversations.map(({ key }) => key);
  const state = (...conversations: ConversationView[]): ConversationsState => ({ ready: true, conversations });

  test("has those at the top first, the archived ones apart, and only those unread, each the newest first", () => {
    const all = new Value(state(view("a", {}, 2), view("b", { archived: true, pinned: true }, 1), view("c", { pinned: true }), view("d"), view("e", { pinned: true }, 1), view("f", { archived: true })));
    const shown = (filter: ConversationFilter) => listOf(all, filter).getSnapshot();
    expect(keys(shown(MAIN))).toEqual(["c", "e", "a", "d"]);
    expect(keys(shown(APART))).toEqual(["b", "f"]);
    expect(keys(shown({ archived: false, onlyUnread: true }))).toEqual(["e", "a"]);
    expect(keys(shown({ archived: true, onlyUnread: true }))).toEqual(["b"]);
    expect([MAIN, APART, { ...MAIN, onlyUnread: true }].map((filter) => shown(filter).unread)).toEqual([2, 1, 2]);
    // What is not said is not so.
    all.set(state({ ...view("g"), settings: { notify: "all", archived: null, pinned: null } as never }, view("h", { pinned: true, archived: false })));
    expect([keys(shown(MAIN)), keys(shown(APART))]).toEqual([["h", "g"], []]);
  });

  test("is the same, and tells nobody, while nothing of it has changed", () => {
    const [a, b] = [view("a"), view("b", { archived: true })];
    const all = new Value<ConversationsState>({ ready: false, conversations: [] });
    const [main, apart] = [listOf(all, MAIN), listOf(all, APART)];
    const told: string[] = [];
    const leave = [main.subscribe(() => told.push("main")), apart.subscribe(() => told.push("apart"))];
    all.set(state(a, b));
    expect(told.splice(0)).toEqual(["main", "apart"]);
    const before = main.getSnapshot();
    all.set(state(view("b", { archived: true }, 1), a));
    expect(told.splice(0)).toEqual(["apart"]);
    expect(main.getSnapshot()).toBe(before);
    expect(main.getSnapshot().conversations[0]).toBe(a);
    for (const end of leave) end();
    all.set(state());
    expect(told).toEqual([]);
    expect(keys(main.getSnapshot())).toEqual([]);
  });
});

describe("a full sync that had no room for all", () => {
  const ANA = "a".repeat(24);
  const id = (number: number) => number.toString(16).padStart(24, "0");
  const conversation = (number: number, settings?: ConversationSettings) => ({
    id: id(number), kind: "direct", members: [ANA, id(number + 1_000)].map((member) => ({ member, delivered: 0, read: 0 })), last_seq: 1, last_at: new Date(number * 1_000).toISOString(),
    unread: 0, unread_more: false, entries: [], settings_revision: settings ? 1 : 0, ...(settings ? { settings } : {}),
  });

  test("has those at the top of the list asked for, once and first, and then all the others", async () => {
    const asked: ClientFrame[] = [];
    const request = (frame: ClientFrame) => {
      if (frame.type !== "conversations.list") return new Promise(() => undefined);
      asked.push(frame);
      if (frame.pinned) return Promise.resolve({ conversations: [conversation(1, PINNED)] });
      return Promise.resolve(frame.after ? { conversations: [conversation(1, PINNED), conversation(0)] } : { conversations: [conversation(3), conversation(2)], next: "next" });
    };
    const environment = platformEnvironment();
    const connection = { online: false, request };
    const book = new Book(environment, new Journal(new MemoryStorage(), environment.clock, () => undefined), new Keys(ANA), connection as never);
    await book.load();
    book.hello();
    book.received({ type: "sync", conversations: [conversation(3)], cursor: "1" } as never);
    book.received({ type: "sync.done", cursor: "2", full: true, more: true } as never);
    expect(asked).toEqual([]);
    connection.online = true;
    book.online(true);
    const main = listOf(book.list, MAIN);
    await until("all are there", () => main.getSnapshot().conversations.length === 4);
    expect(main.getSnapshot().conversations.map((each) => each.id)).toEqual([1, 3, 2, 0].map(id));
    expect(asked).toEqual([
      { type: "conversations.list", limit: 100, pinned: true }, { type: "conversations.list", limit: 100 }, { type: "conversations.list", limit: 100, after: "next" },
    ]);
    book.online(true);
    await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toHaveLength(3);
    book.stop();
  });
});

test("settings that this version does not know are kept for the one that does, so the schema stays as it is", async () => {
  const environment = platformEnvironment();
  const storage = new MemoryStorage();
  const [me, other] = ["a".repeat(24), "b".repeat(24)];
  const open = async () => {
    const journal = new Journal(storage, environment.clock, () => undefined);
    const book = new Book(environment, journal, new Keys(me), { online: false, request: () => Promise.reject(new Error("there is no network")) } as never);
    await book.load();
    return { book, journal };
  };
  const settings = { notify: "all", pinned: true, colour: "green" };
  const { book, journal } = await open();
  const members = [me, other].map((member) => ({ member, delivered: 0, read: 0 }));
  const state = { id: "c".repeat(24), kind: "direct", members, last_seq: 1, last_at: new Date(0).toISOString(), unread: 0, unread_more: false, entries: [], settings, settings_revision: 1 };
  book.received({ type: "sync", conversations: [state], cursor: "1" } as never);
  await journal.stored();
  book.stop();
  const again = await open();
  expect(again.book.list.getSnapshot().conversations[0]?.settings).toEqual(settings);
  again.book.stop();
});

describe("with a server", () => {
  let world: World;
  beforeEach(async () => {
    world = await World.make();
  }, 40_000);
  afterEach(() => world.end(), 20_000);

  /** A member who is signed in on a device. */
  async function device(name: string, { person }: Reader): Promise<Device> {
    const made = await world.device(name);
    await made.launch();
    await made.client.login(credentials(person));
    await made.online();
    return made;
  }

  async function configure({ client }: Device, { person }: Reader, settings: ConversationSettings): Promise<void> {
    const { id } = client.conversation({ member: person.id }).info.getSnapshot();
    if (!id) throw new Error("there is no conversation");
    await new Conversations(client.api).configure(id, settings);
  }

  /** Who is in a list of a device, from its top. */
  const listed = ({ client }: Device, filter: ConversationFilter) => listOf(client.conversations, filter).getSnapshot().conversations.map(({ others }) => others[0]);

  async function shows(device: Device, filter: ConversationFilter, others: readonly Reader[]): Promise<void> {
    const ids = others.map(({ person }) => person.id);
    await until(`${device.name} shows ${others.map(({ person }) => person.name).join()}`, () => String(listed(device, filter)) === String(ids), { explain: () => listed(device, filter) });
  }

  test("what is archived or pinned on one device is so on the other, also after it was away; a message changes nothing of it", async () => {
    const [ana, ben, eva, fay] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva"), await world.member("Fay")];
    for (const other of [ben, eva, fay]) await other.send(ana.person.id, "hello");
    const [phone, tablet] = [await device("phone", ana), await device("tablet", ana)];
    await shows(phone, MAIN, [fay, eva, ben]);
    await configure(phone, ben, PINNED);
    await configure(phone, fay, ARCHIVED);
    for (const each of [phone, tablet]) {
      await shows(each, MAIN, [ben, eva]);
      await shows(each, APART, [fay]);
    }
    tablet.kill("applied");
    await fay.send(ana.person.id, "are you there?");
    await configure(phone, ben, { notify: "all" });
    await configure(phone, eva, { ...PINNED, ...ARCHIVED });
    tablet.proxy.reach = "dead";
    await tablet.launch();
    await shows(tablet, MAIN, [ben, eva]);
    tablet.proxy.cut();
    tablet.proxy.reach = "up";
    tablet.client.wake();
    await shows(tablet, MAIN, [ben]);
    await shows(tablet, APART, [fay, eva]);
    expect(tablet.client.conversation({ member: fay.person.id }).info.getSnapshot()).toMatchObject({ unread: 2, settings: ARCHIVED });
    await configure(tablet, fay, { notify: "all" });
    await shows(phone, MAIN, [fay, ben]);
    await shows(phone, APART, [eva]);
  });

  test("an older revision, and settings that are none, take nothing back", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    await ben.send(ana.person.id, "hello");
    const [phone, tablet] = [await device("phone", ana), await device("tablet", ana)];
    const revisions: unknown[] = [];
    let late: unknown;
    tablet.change = (frame) => {
      if (frame.type !== "conversation.settings") return frame;
      revisions.push(frame.settings);
      // The first one comes again after the second one; the third one is none.
      if (revisions.length === 1) late = frame;
      return revisions.length === 3 ? late : frame;
    };
    await configure(phone, ben, PINNED);
    await configure(phone, ben, ARCHIVED);
    await shows(tablet, APART, [ben]);
    await configure(phone, ben, { ...ARCHIVED, notify: "nothing" });
    await until("the tablet has got it", () => revisions.length === 3);
    await ben.send(ana.person.id, "one more");
    await until("what came after it is there", () => tablet.client.conversations.getSnapshot().conversations[0]?.last?.content === "one more");
    await shows(tablet, APART, [ben]);
    tablet.change = (frame) => (frame.type === "conversation.settings" ? { ...frame, settings: { notify: "all", archived: "yes" } } : frame);
    await configure(phone, ben, { ...ARCHIVED, notify: "mentions" });
    await shows(tablet, MAIN, [ben]);
  });

  test("a new device of a member with more conversations than a sync has shows those at the top of the list", async () => {
    const ana = await world.member("Ana");
    const others: Reader[] = [];
    for (let n = 0; n < 53; n += 1) others.push(await world.member(`Member ${n}`));
    for (const other of others) await other.send(ana.person.id, "hello");
    const [first, second] = others as [Reader, Reader];
    const phone = await device("phone", ana);
    await until("the phone has all", () => listed(phone, MAIN).length === 53);
    await configure(phone, first, PINNED);
    await configure(phone, second, ARCHIVED);
    const tablet = await world.device("tablet");
    const asked: ClientFrame[] = [];
    tablet.onSent = (frame) => void (frame.type === "conversations.list" && asked.push(frame));
    await tablet.launch();
    await tablet.client.login(credentials(ana.person));
    await shows(tablet, MAIN, [first, ...others.slice(2).reverse()]);
    await shows(tablet, APART, [second]);
    expect(asked.map(({ id: _, ...frame }: ClientFrame & { id?: string }) => frame)).toEqual([{ type: "conversations.list", limit: 100, pinned: true }, { type: "conversations.list", limit: 100 }]);
  }, 60_000);

  test("only those unread are shown, until they are read; the hook gives the same", async () => {
    const [ana, ben, eva] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva")];
    for (const other of [ben, eva]) await other.send(ana.person.id, "hello");
    const [phone, tablet] = [await device("phone", ana), await device("tablet", ana)];
    const unread: ConversationFilter = { archived: false, onlyUnread: true };
    await shows(phone, unread, [eva, ben]);
    await configure(phone, ben, ARCHIVED);
    const chat = tablet.client.conversation({ member: eva.person.id });
    chat.messages.subscribe(() => undefined);
    await until("it is open", () => chat.messages.getSnapshot().ready);
    chat.markRead();
    await shows(phone, unread, []);
    await shows(phone, { archived: true, onlyUnread: true }, [ben]);
    const Screen = () => {
      const [all, main, apart] = [useConversations(), useConversations(MAIN), useConversations(APART)];
      return createElement("p", null, [all.conversations.length, main.conversations.length, main.unread, apart.conversations.length, apart.unread].join(" "));
    };
    const html = () => renderToString(createElement(MembersBookProvider, { client: phone.client }, createElement(Screen)));
    expect(html()).toBe("<p>2 1 0 1 1</p>");
    await phone.client.logout();
    expect(html()).toBe("<p>0 0 0 0 0</p>");
  });
});
