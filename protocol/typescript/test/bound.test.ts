import { afterEach, describe, expect, test, vi } from "vitest";

import { Book } from "../src/book.js";
import type { Connection } from "../src/connection.js";
import { platformEnvironment } from "../src/environment.js";
import { MembersBookError } from "../src/errors.js";
import { Journal } from "../src/journal.js";
import type { ConversationId, MemberId, Message } from "../src/protocol.js";
import { Keys } from "../src/records.js";
import type { ConversationRecord } from "../src/records.js";
import { MemoryStorage } from "../src/storage/memory.js";

const id = (digit: string) => digit.repeat(24);
const [ANA, BEN, CHAT] = [id("a") as MemberId, id("b") as MemberId, id("c") as ConversationId];
const KEY = `m_${BEN}`;
const keys = new Keys(ANA);
const environment = platformEnvironment();

function message(seq: number, sender = BEN): Message {
  const own = { id: `${sender}-${seq}`, client_id: `client-${seq}`, conversation: CHAT, seq, sender, content: `w-${seq}`, at: new Date(seq * 1000).toISOString() };
  return own as unknown as Message;
}

afterEach(() => void vi.useRealTimers());

/** A book on a storage, without a network. */
async function opened(storage: MemoryStorage, network: object = { online: false, request: () => Promise.reject(new Error("there is no network")) }, around = environment): Promise<{ book: Book; journal: Journal }> {
  const journal = new Journal(storage, around.clock, () => undefined);
  const connection = network as Connection;
  const book = new Book(around, journal, keys, connection);
  await book.load();
  await book.loadOutbox();
  return { book, journal };
}

async function push(book: Book, from: number, to: number, sender = BEN): Promise<void> {
  for (let seq = from; seq <= to; seq += 1) {
    book.received({ type: "entry", entry: { kind: "message", ...message(seq, sender) }, conversation: { kind: "direct", members: [ANA, BEN] } } as never);
    // As pushes come: each in a turn of its own.
    if (seq % 50 === 0) await Promise.resolve();
  }
}

/** The places of what is stored of the log. */
async function kept(storage: MemoryStorage): Promise<number[]> {
  return (await storage.range(...keys.entries)).map(([key]) => Number(key.split("/").at(-1)));
}

async function recordOf(storage: MemoryStorage): Promise<ConversationRecord> {
  return JSON.parse((await storage.get(keys.conversation(KEY))) ?? "{}") as ConversationRecord;
}

const run = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

describe("what is kept of a conversation", () => {
  test("that nobody opens is bounded: the oldest goes, without a hole; what is unread and unsent stays", async () => {
    const storage = new MemoryStorage();
    const { book, journal } = await opened(storage);
    book.writing.add(book.conversation({ member: BEN }), "w-unsent");
    await push(book, 1, 1_000);
    await journal.stored();
    expect(await kept(storage)).toEqual(run(1, 1_000));
    await push(book, 1_001, 1_001);
    await journal.stored();
    expect(await kept(storage)).toEqual(run(502, 1_001));
    await push(book, 1_002, 2_600);
    await journal.stored();
    const places = await kept(storage);
    expect(places.length).toBeLessThanOrEqual(1_000);
    expect(places).toEqual(run(places[0] ?? 0, 2_600));
    expect(await recordOf(storage)).toMatchObject({ first: places[0], to: 2_600, later: 2_600 });
    expect(book.unread.getSnapshot()).toEqual({ total: 1_000, more: true });
    expect(book.unsent).toBe(1);
    expect(await storage.range(...keys.outbox)).toHaveLength(1);
    book.stop();
  });

  test("that is looked at is not, and what it has too much goes at the next start of an app that was killed", async () => {
    const storage = new MemoryStorage();
    const before = await opened(storage);
    const leave = before.book.conversation({ member: BEN }).messages.subscribe(() => undefined);
    await push(before.book, 1, 1_400);
    await before.journal.stored();
    expect(await kept(storage)).toEqual(run(1, 1_400));
    before.book.stop();
    const { book, journal } = await opened(storage);
    await journal.stored();
    expect(await kept(storage)).toEqual(run(901, 1_400));
    expect(book.unread.getSnapshot()).toEqual({ total: 1_000, more: true });
    // What is left is shown, and what is before it is asked for.
    const { messages } = book.conversation({ member: BEN });
    messages.subscribe(() => undefined);
    await expect.poll(() => messages.getSnapshot().messages.length).toBe(50);
    expect(messages.getSnapshot().hasOlder).toBe(true);
    book.stop();
    leave();
  });
});

test("what was read is said when it is stored; where it cannot be stored, all the same", async () => {
  const storage = new MemoryStorage();
  const said: { type: string; seq?: number }[] = [];
  const request = (frame: { type: string; seq?: number }) => {
    said.push(frame);
    return Promise.resolve({ type: "ok" });
  };
  const { book, journal } = await opened(storage, { online: true, request });
  await journal.stored();
  const write = storage.write.bind(storage);
  const gate: { open?: () => void } = {};
  storage.write = async (changes) => {
    await new Promise<void>((resolve) => (gate.open = resolve));
    return write(changes);
  };
  const read = () => said.filter(({ type }) => type === "message.read").map(({ seq }) => seq);
  await push(book, 1, 3);
  book.markRead(book.conversation({ member: BEN }));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(read()).toEqual([]);
  gate.open?.();
  await expect.poll(async () => (await recordOf(storage)).to).toBe(3);
  await expect.poll(() => (gate.open?.(), read())).toEqual([3]);
  storage.write = () => Promise.reject(new Error("there is no room"));
  gate.open?.();
  await push(book, 4, 4);
  book.markRead(book.conversation({ member: BEN }));
  await expect.poll(read).toEqual([3, 4]);
  expect((await recordOf(storage)).to).toBe(3);
  book.stop();
});

test("a conversation that is refused for good does not keep others from being filled", async () => {
  const [refused, good] = [id("1") as ConversationId, id("2") as ConversationId];
  const asked: string[] = [];
  const request = (frame: { type: string; conversation?: string }) => {
    if (frame.type !== "history.get") return Promise.resolve({ type: "ok" });
    asked.push(frame.conversation ?? "");
    return frame.conversation === refused
      ? Promise.reject(new MembersBookError("conversation_not_found", "It is gone."))
      : Promise.resolve({ type: "history", entries: [{ kind: "message", ...message(1), conversation: good }] });
  };
  const { book } = await opened(new MemoryStorage(), { online: true, request });
  const state = (conversation: ConversationId, other: string) => ({
    id: conversation, kind: "direct", members: [ANA, id(other)].map((member) => ({ member, delivered: 0, read: 0 })), last_seq: 1, last_at: new Date(1000).toISOString(), unread: 1, entries: [], settings_revision: 0,
  });
  book.received({ type: "sync", conversations: [state(refused, "d"), state(good, "e")], cursor: "c" } as never);
  await expect.poll(() => book.conversation({ conversation: good }).state.to, { timeout: 10_000 }).toBe(1);
  expect(asked.slice(0, 2)).toEqual([refused, good]);
  book.stop();
});

test("however many are refused for good: the others are filled at once, each of the refused has a pause of its own, and a new connection or a look asks again", async () => {
  vi.useFakeTimers();
  const clock = { ...environment.clock, monotonic: () => Date.now() };
  const ids = Array.from({ length: 13 }, (_, n) => (0x1000 + n).toString(16).padStart(24, "0") as ConversationId);
  const [good, late, ...refused] = ids as [ConversationId, ConversationId, ...ConversationId[]];
  const asked: string[] = [];
  const request = (frame: { type: string; conversation?: ConversationId }) => {
    if (frame.type !== "history.get" || !frame.conversation) return Promise.resolve({ type: "ok" });
    asked.push(frame.conversation);
    if (refused.includes(frame.conversation)) return Promise.reject(new MembersBookError("conversation_not_found", "It is gone."));
    return Promise.resolve({ type: "history", entries: [{ kind: "message", ...message(1), conversation: frame.conversation }] });
  };
  const { book } = await opened(new MemoryStorage(), { online: true, request }, { ...environment, clock, random: () => 1 });
  const state = (conversation: ConversationId) => ({
    id: conversation, kind: "direct", members: [ANA, conversation.replace("1", "2")].map((member) => ({ member, delivered: 0, read: 0 })), last_seq: 1, last_at: new Date(1000).toISOString(), unread: 1, entries: [], settings_revision: 0,
  });
  const sync = (...conversations: ConversationId[]) => book.received({ type: "sync", conversations: conversations.map(state), cursor: "c" } as never);
  sync(...refused, good);
  await vi.advanceTimersByTimeAsync(50);
  expect(asked).toEqual([...refused, good]);
  // What comes during the pauses does not wait for them, and does not end them.
  sync(late);
  await vi.advanceTimersByTimeAsync(50);
  expect(asked.splice(0)).toEqual([...refused, good, late]);
  await vi.advanceTimersByTimeAsync(50_000);
  expect(asked).toEqual([]);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(asked.splice(0)).toEqual(refused);
  book.conversation({ conversation: refused[3] as ConversationId }).messages.subscribe(() => undefined);
  await vi.advanceTimersByTimeAsync(50);
  expect(asked.splice(0)).toEqual([refused[3]]);
  book.online(false);
  book.online(true);
  await vi.advanceTimersByTimeAsync(50);
  expect(asked.sort()).toEqual([...refused].sort());
  book.stop();
});
