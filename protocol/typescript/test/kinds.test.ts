import { expect, test, vi } from "vitest";

import { Book } from "../src/book.js";
import type { Connection } from "../src/connection.js";
import { platformEnvironment } from "../src/environment.js";
import { Journal } from "../src/journal.js";
import type { ConversationId, Entry, MemberId } from "../src/protocol.js";
import { Keys } from "../src/records.js";
import { MemoryStorage } from "../src/storage/memory.js";
import { Typing } from "../src/typing.js";

/** What is of a later version of the server: conversations of other kinds than `direct`, and entries of other kinds than `message`. */

const id = (digit: string) => digit.repeat(24);
const [ANA, BEN, EVA] = ["a", "b", "e"].map((digit) => id(digit) as MemberId) as [MemberId, MemberId, MemberId];
const [DIRECT, GROUP, PAIR] = ["1", "2", "3"].map((digit) => id(digit) as ConversationId) as [ConversationId, ConversationId, ConversationId];
const keys = new Keys(ANA);
const environment = platformEnvironment();
const at = (seq: number) => new Date(seq * 1000).toISOString();

const message = (conversation: ConversationId, seq: number, content: string, sender = BEN) =>
  ({ kind: "message", id: `id-${content}`, client_id: `client-${content}`, conversation, seq, sender, content, at: at(seq) }) as unknown as Entry;
/** As they come with groups: without a sender, and without a content. */
const other = (kind: string, seq: number, more: object = {}) => ({ kind, conversation: GROUP, seq, by: BEN, at: at(seq), ...more }) as unknown as Entry;

interface Asked { type: string; to?: string; conversation?: string; content?: string }

async function opened(storage = new MemoryStorage()) {
  const journal = new Journal(storage, environment.clock, () => undefined);
  const asked: Asked[] = [];
  const request = (frame: Asked) => {
    asked.push(frame);
    return frame.type === "message.send" ? new Promise(() => undefined) : Promise.resolve({ type: "ok", conversations: [], entries: [] });
  };
  const connection = { online: true, request } as unknown as Connection;
  const book = new Book(environment, journal, keys, connection);
  await book.load();
  await book.loadOutbox();
  const push = (entry: Entry, kind?: string, members?: MemberId[]) => book.received({ type: "entry", entry, ...(kind ? { conversation: { kind, members } } : {}) } as never);
  const list = () => {
    book.show();
    return book.list.getSnapshot().conversations;
  };
  return { storage, journal, book, connection, asked, push, list };
}

test("a conversation of another kind that begins is one of its own, whoever is in it: nothing private goes there", async () => {
  const { storage, journal, book, asked, push, list } = await opened();
  push(message(DIRECT, 1, "direct"), "direct", [ANA, BEN]);
  push(message(GROUP, 1, "group"), "group", [ANA, BEN, EVA]);
  // Of two, and yet none of two members for ever.
  push(message(PAIR, 1, "pair"), "group", [ANA, BEN]);
  const rows = () => Object.fromEntries(list().map(({ key, kind, id, others, last, unread }) => [key, [kind, id, others, last?.content, unread]]));
  const expected = {
    [`m_${BEN}`]: ["direct", DIRECT, [BEN], "direct", 1],
    [`c_${GROUP}`]: ["group", GROUP, [BEN, EVA], "group", 1],
    [`c_${PAIR}`]: ["group", PAIR, [BEN], "pair", 1],
  };
  expect(rows()).toEqual(expected);
  book.writing.add(book.conversation({ member: BEN }), "private to Ben");
  book.writing.add(book.conversation({ conversation: GROUP }), "for all");
  await vi.waitFor(() => expect(asked.filter(({ type }) => type === "message.send")).toMatchObject([
    { conversation: DIRECT, content: "private to Ben" },
    { conversation: GROUP, content: "for all" },
  ]));
  await journal.stored();
  book.stop();
  const again = await opened(storage);
  expect(Object.keys(rows()).sort()).toEqual(again.list().map(({ key }) => key).sort());
  expect(again.list().map(({ id, kind, others }) => [id, kind, others.length])).toEqual(expect.arrayContaining([[DIRECT, "direct", 1], [GROUP, "group", 2], [PAIR, "group", 1]]));
  again.book.stop();
});

test("a group that begins before there is a direct conversation: the first message to the member goes to the member", async () => {
  const { book, asked, push } = await opened();
  push(message(GROUP, 1, "group"), "group", [ANA, BEN, EVA]);
  book.writing.add(book.conversation({ member: BEN }), "private to Ben");
  await vi.waitFor(() => expect(asked.filter(({ type }) => type === "message.send")).toMatchObject([{ to: BEN, content: "private to Ben" }]));
  book.stop();
});

test("an id that a conversation has stays, whatever a server says", async () => {
  const { book, push, list } = await opened();
  push(message(DIRECT, 1, "direct"), "direct", [ANA, BEN]);
  push(message(PAIR, 1, "another"), "direct", [ANA, BEN]);
  const members = [ANA, BEN].map((member) => ({ member, delivered: 0, read: 0 }));
  book.received({ type: "sync", conversations: [{ id: GROUP, kind: "direct", members, last_seq: 1, last_at: at(1), unread: 1, entries: [message(GROUP, 1, "a third")] }], cursor: "c" } as never);
  expect(book.conversation({ member: BEN }).state.id).toBe(DIRECT);
  expect(list().map(({ id, last }) => [id, last?.content]).sort()).toEqual([[DIRECT, "direct"], [GROUP, "a third"], [PAIR, "another"]]);
  book.stop();
});

test("entries of other kinds are counted and kept, and passed over", async () => {
  const { storage, journal, book, push, list } = await opened();
  const handle = book.conversation({ conversation: GROUP });
  const leave = handle.messages.subscribe(() => undefined);
  push(other("joined", 1, { members: [ANA, BEN, EVA] }), "group", [ANA, BEN, EVA]);
  await vi.waitFor(() => expect(handle.messages.getSnapshot()).toMatchObject({ messages: [], ready: true }));
  const row = () => list()[0];
  expect(row()).toMatchObject({ kind: "group", others: [BEN, EVA], unread: 0, lastAt: 1000 });
  expect(row()?.last).toBeUndefined();
  push(message(GROUP, 2, "w-1"));
  push(other("role", 3, { member: EVA, role: "admin" }));
  // A gap that is closed, with both.
  push(other("changed", 5, { title: "The board" }));
  push(message(GROUP, 4, "w-2", EVA));
  push(other("left", 6, { member: EVA, at: undefined }));
  const check = ({ list }: Pick<Awaited<ReturnType<typeof opened>>, "list">) => {
    expect(list()[0]).toMatchObject({ unread: 2, unreadMore: false, lastAt: 5000, last: { content: "w-2", seq: 4 } });
  };
  check({ list });
  expect(handle.state).toMatchObject({ first: 1, to: 6, lastSeq: 6 });
  expect(handle.messages.getSnapshot().messages.map(({ content }) => content)).toEqual(["w-1", "w-2"]);
  await journal.stored();
  const kept = (await storage.range(...keys.entries)).map(([, value]) => JSON.parse(value) as { kind: string });
  expect(kept.map(({ kind }) => kind)).toEqual(["joined", "message", "role", "message", "changed", "left"]);
  expect(kept[0]).toEqual(other("joined", 1, { members: [ANA, BEN, EVA] }));
  leave();
  book.stop();

  const again = await opened(storage);
  check(again);
  const other_handle = again.book.conversation({ conversation: GROUP });
  other_handle.messages.subscribe(() => undefined);
  await vi.waitFor(() => expect(other_handle.messages.getSnapshot().messages.map(({ content }) => content)).toEqual(["w-1", "w-2"]));
  // The last of what is unread is a message; what is after it is none.
  again.book.markRead(other_handle, 3);
  expect(again.list()[0]).toMatchObject({ unread: 1 });
  again.book.markRead(other_handle);
  expect(again.list()[0]).toMatchObject({ unread: 0 });
  expect(other_handle.readSeq).toBe(6);
  again.book.stop();
});

test("somebody who types goes on typing, whatever entry comes, until it is a message", async () => {
  const { journal, book, connection, push } = await opened();
  const typing = new Typing();
  await typing.begin({ environment, journal, keys, connection, book } as unknown as Parameters<Typing["begin"]>[0]);
  push(message(GROUP, 1, "w-1"), "group", [ANA, BEN, EVA]);
  const shown = () => {
    book.show();
    return book.list.getSnapshot().conversations[0]?.typing;
  };
  const told = (entry: Entry | undefined) => typing.pushed({ type: "entry", entry } as never);
  typing.pushed({ type: "typing", conversation: GROUP, member: BEN, active: true } as never);
  expect(shown()).toEqual([BEN]);
  for (const entry of [other("joined", 2), other("reaction", 3, { sender: BEN }), undefined]) told(entry);
  expect(shown()).toEqual([BEN]);
  told(message(GROUP, 4, "w-2"));
  expect(shown()).toEqual([]);
  typing.stop();
  book.stop();
});

test("the newest message is that of the list, also if it came after entries of other kinds that are newer", async () => {
  const { storage, journal, book, push, list } = await opened();
  push(message(GROUP, 1, "w-0"), "group", [ANA, BEN, EVA]);
  const handle = book.conversation({ conversation: GROUP });
  handle.messages.subscribe(() => undefined);
  await vi.waitFor(() => expect(handle.messages.getSnapshot().ready).toBe(true));
  // So much is missing that the window begins anew, with what is not shown.
  handle.page(Array.from({ length: 100 }, (_, n) => other("joined", 901 + n)), true);
  expect(list()[0]).toMatchObject({ last: { content: "w-0" } });
  await handle.loadOlder(() => Promise.resolve([message(GROUP, 899, "w-1"), message(GROUP, 900, "w-2")]));
  await handle.loadOlder(() => Promise.resolve([message(GROUP, 898, "w-3")]));
  expect(list()[0]).toMatchObject({ last: { content: "w-2", seq: 900 } });
  await journal.stored();
  book.stop();
  const again = await opened(storage);
  expect(again.list()[0]).toMatchObject({ last: { content: "w-2", seq: 900 } });
  again.book.stop();
});

for (const [what, more] of Object.entries({
  "a content": { content: "x".repeat(30_000), sender: BEN },
  "many fields": { content: "x".repeat(9_000), sender: "x".repeat(9_000), id: "x".repeat(9_000) },
  "a content that takes more when it is kept": { content: "\u0001".repeat(9_000) },
  "a time": { at: `${new Date(2000).toUTCString()} (${"x".repeat(30_000)})` },
})) {
  test(`an entry of another kind with ${what} that is too long leaves no log that is damaged`, async () => {
    const { storage, journal, book, push } = await opened();
    push(message(GROUP, 1, "w-1"), "group", [ANA, BEN, EVA]);
    push(other("essay", 2, more));
    push(message(GROUP, 3, "w-2"));
    await journal.stored();
    book.stop();
    const again = await opened(storage);
    const { messages, state } = again.book.conversation({ conversation: GROUP });
    messages.subscribe(() => undefined);
    await vi.waitFor(() => expect(messages.getSnapshot()).toMatchObject({ ready: true, messages: [{ content: "w-1" }, { content: "w-2" }] }));
    expect(state).toMatchObject({ first: 1, to: 3 });
    again.book.stop();
  });
}
