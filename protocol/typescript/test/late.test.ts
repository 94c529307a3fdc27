import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Book } from "../src/book.js";
import { platformEnvironment } from "../src/environment.js";
import { MemoryStorage } from "../src/index.js";
import type { ConversationHandle } from "../src/index.js";
import { Journal } from "../src/journal.js";
import { Keys } from "../src/records.js";
import { ANA, BEN, pass, Phone } from "./support/phone.js";

const CHAT = "c".repeat(24);
const keys = new Keys(ANA);
const NAME = `m_${BEN}`;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const entry = (seq: number, own = false, kind = "message") => ({
  kind, id: `id-${seq}`, client_id: `client-${seq}`, conversation: CHAT, seq, sender: own ? ANA : BEN, content: `w-${seq}`, at: new Date(seq * 1_000).toISOString(),
});
const watermarks = (delivered: number) => [ANA, BEN].map((member) => ({ member, delivered, read: 0 }));

/** A conversation as it is stored: `count` messages of Ben, the last of them shown in the list. */
function stored(count: number, own = false): [string, string][] {
  const record = {
    id: CHAT, kind: "direct", members: watermarks(count), lastSeq: count, first: 1, to: count, unread: count, unreadMore: false, countedTo: count, later: 0, readWanted: 0, recount: false, lastAt: 1, revision: 0,
  };
  const entries = Array.from({ length: count }, (_, index) => entry(index + 1, own));
  return [[keys.conversation(NAME), JSON.stringify(record)], ...entries.map((each): [string, string] => [keys.entry(NAME, each.seq), JSON.stringify(each)])];
}

const unsent = (order: number, id: string, content: string): [string, string] => [keys.outgoing(order), JSON.stringify({ id, conversation: NAME, content, at: 1 })];
const read = (seq: number): [string, string] => [keys.reading(NAME), JSON.stringify({ conversation: NAME, read: seq })];
const shown = ({ messages }: Pick<ConversationHandle, "messages">) => messages.getSnapshot().messages.map(({ content }) => content);

/** Reads of what `fails` says do. */
function spoil(storage: MemoryStorage, fails: (from: string) => boolean): void {
  const range = storage.range.bind(storage);
  storage.range = (from, to) => (fails(from) ? Promise.reject(new Error("it cannot be read")) : range(from, to));
}

async function opened(storage: MemoryStorage, request: (frame: { type: string; seq?: number; before?: number }) => Promise<unknown> = () => Promise.resolve({ type: "ok" })): Promise<{ book: Book; journal: Journal }> {
  const environment = platformEnvironment();
  const journal = new Journal(storage, environment.clock, () => undefined);
  const book = new Book(environment, journal, keys, { online: true, request } as never);
  await book.load();
  return { book, journal };
}

/** What a server says that knows of `count` messages of Ben. */
function sync(book: Book, count: number): void {
  const state = { id: CHAT, kind: "direct", members: watermarks(count), last_seq: count, last_at: new Date(1_000).toISOString(), unread: count, entries: [], settings_revision: 0 };
  book.received({ type: "sync", conversations: [state], cursor: "cursor" } as never);
}

describe("a storage that is late", () => {
  test("and opens before it is known who is signed in: what was not sent is taken up", async () => {
    const phone = new Phone();
    await phone.vault.set(JSON.stringify({ member: ANA, access: "access-a", refresh: "refresh-a", expires: Date.now() + 3_600_000 }));
    await phone.storage.write({ put: new Map([...stored(2), unsent(1, "u-1", "u-1"), unsent(2, "u-2", "u-2")]) });
    let fails = 2;
    phone.storage.open = () => (fails-- > 0 ? Promise.reject(new Error("it is busy")) : Promise.resolve());
    spoil(phone.storage, () => fails >= 0);
    const socket = () => ({ send: () => undefined, close: () => undefined, onopen: null, onmessage: null, onclose: null, onerror: null });
    const me = { _id: ANA, name: "Ana", email: "a@example.com", tier: "gold", contact_info: {}, visibility: {} };
    const fetch = () => new Promise<Response>((resolve) => setTimeout(() => resolve(Response.json(me)), 15_000));
    const client = phone.client({ environment: { socket, fetch } });
    const started = client.start();
    await pass(10_000);
    await started;
    expect(client.session.getSnapshot().status).toBe("loading");
    await pass(10_000);
    expect([client.session.getSnapshot().status, client.unsent(), client.connection.getSnapshot().storageFailing]).toEqual(["signed_in", 2, false]);
    const chat = client.conversation({ member: BEN });
    chat.messages.subscribe(() => undefined);
    await pass(100);
    expect(shown(chat)).toEqual(["w-1", "w-2", "u-1", "u-2"]);
    await client.stop();
  });

  test("and whose conversations cannot be read: it says so, and shows them when they can be; what is written meanwhile takes nothing of them away", async () => {
    const phone = new Phone();
    await phone.storage.write({ put: new Map([...stored(3), [keys.cursor, JSON.stringify({ cursor: "cursor", partial: false })]]) });
    let bad = true;
    spoil(phone.storage, (from) => bad && from.includes("/c/"));
    const client = await phone.signedIn();
    expect(client.connection.getSnapshot().storageFailing).toBe(true);
    const chat = client.conversation({ member: BEN });
    chat.messages.subscribe(() => undefined);
    await chat.send("w-new");
    await pass(1_000);
    expect([shown(chat), chat.messages.getSnapshot().ready]).toEqual([["w-new"], false]);
    bad = false;
    await pass(60_000);
    expect([shown(chat), chat.messages.getSnapshot().ready]).toEqual([["w-1", "w-2", "w-3", "w-new"], true]);
    expect(client.connection.getSnapshot().storageFailing).toBe(false);
    expect(client.conversations.getSnapshot()).toMatchObject({ ready: true, conversations: [{ id: CHAT, unread: 3 }] });
    await client.stop();
  });

  test("what the server has said meanwhile stays", async () => {
    const storage = new MemoryStorage();
    await storage.write({ put: new Map(stored(3)) });
    let bad = true;
    spoil(storage, (from) => bad && from.includes("/c/"));
    const environment = platformEnvironment();
    const book = new Book(environment, new Journal(storage, environment.clock, () => undefined), keys, { online: true, request: () => new Promise(() => undefined) } as never);
    await expect(book.load()).rejects.toThrow();
    sync(book, 5);
    bad = false;
    await book.load();
    expect(book.conversation({ member: BEN }).state).toMatchObject({ lastSeq: 5, to: 0 });
    book.stop();
  });

  for (const killed of [false, true]) {
    test(`by a clock that went back what was written since is not before what is stored${killed ? ", also if the app ends before that can be read" : ""}`, async () => {
      const phone = new Phone();
      const first = await phone.signedIn();
      await first.conversation({ member: BEN }).send("w-1");
      await first.conversation({ member: BEN }).send("w-2");
      await pass(100);
      await first.stop();
      let bad = true;
      spoil(phone.storage, (from) => bad && from.includes("/o/"));
      vi.setSystemTime(Date.now() - 3_600_123);
      let client = phone.client();
      await client.start();
      await client.conversation({ member: BEN }).send("w-3");
      await client.conversation({ member: BEN }).send("w-4");
      if (killed) await client.stop();
      bad = false;
      if (killed) await (client = phone.client()).start();
      await pass(60_000);
      const chat = client.conversation({ member: BEN });
      chat.messages.subscribe(() => undefined);
      await chat.send("w-5");
      await pass(100);
      expect(shown(chat)).toEqual(["w-1", "w-2", "w-3", "w-4", "w-5"]);
      await client.stop();
      const rows = await phone.storage.range(...keys.outbox);
      expect(rows.map(([, value]) => (JSON.parse(value) as { content: string }).content)).toEqual(["w-1", "w-2", "w-3", "w-4", "w-5"]);
    });
  }
});

describe("what was read", () => {
  test("is kept with what was not sent until it is said, and is read also where the conversation was lost", async () => {
    const storage = new MemoryStorage();
    await storage.write({ put: new Map(stored(3)) });
    const said: number[] = [];
    let taken = false;
    const { book, journal } = await opened(storage, async ({ type, seq = 0 }) => {
      if (type !== "message.read") return { type: "ok" };
      if (!taken) return new Promise(() => undefined);
      said.push(seq);
      return { type: "ok", unread: 0, last_seq: seq };
    });
    book.markRead(book.conversation({ member: BEN }));
    await journal.stored();
    expect(await storage.range(...keys.outbox)).toEqual([read(3)]);
    book.stop();
    // As after an update was taken back: nothing else is left.
    await storage.write({ clear: [keys.conversations, keys.entries] });
    taken = true;
    const again = await opened(storage, async ({ type, seq = 0 }) => {
      if (type === "message.read") said.push(seq);
      return { type: "ok", entries: [] };
    });
    await again.book.loadOutbox();
    sync(again.book, 3);
    again.book.show();
    expect(again.book.unread.getSnapshot().total).toBe(0);
    await pass(100);
    expect(said).toEqual([3]);
    await again.journal.stored();
    expect(await storage.range(...keys.outbox)).toEqual([]);
    again.book.stop();
  });

  test("stays where what is stored is of a later version", async () => {
    const phone = new Phone();
    await phone.storage.write({ put: new Map([...stored(3), read(3), ["schema", "999"]]) });
    await phone.vault.set(JSON.stringify({ member: ANA, access: "access-a", refresh: "refresh-a", expires: Date.now() + 3_600_000 }));
    const client = phone.client();
    await client.start();
    expect(await phone.storage.range(...keys.outbox)).toEqual([read(3)]);
    await client.stop();
  });
});

describe("what is in the log", () => {
  test("and comes before the outbox can be read is not shown twice, and not sent again", async () => {
    const storage = new MemoryStorage();
    await storage.write({ put: new Map([...stored(2), unsent(1, "client-3", "w-3")]) });
    let bad = true;
    spoil(storage, (from) => bad && from.includes("/o/"));
    const sent: unknown[] = [];
    const { book, journal } = await opened(storage, async (frame) => (frame.type === "message.send" ? (sent.push(frame), new Promise(() => undefined)) : { type: "ok" }));
    await expect(book.loadOutbox()).rejects.toThrow();
    const chat = book.conversation({ member: BEN });
    chat.messages.subscribe(() => undefined);
    await pass(10);
    book.received({ type: "entry", entry: entry(3, true) } as never);
    bad = false;
    await book.loadOutbox();
    await pass(10);
    expect([shown(chat), book.unsent, sent]).toEqual([["w-1", "w-2", "w-3"], 0, []]);
    await journal.stored();
    expect(await storage.range(...keys.outbox)).toEqual([]);
    book.stop();
  });

  test("and is read later does not wait any more", async () => {
    const storage = new MemoryStorage();
    await storage.write({ put: new Map([...stored(3, true), unsent(1, "client-2", "w-2")]) });
    const { book } = await opened(storage, () => new Promise(() => undefined));
    await book.loadOutbox();
    const chat = book.conversation({ member: BEN });
    chat.messages.subscribe(() => undefined);
    await pass(10);
    expect([shown(chat), book.unsent]).toEqual([["w-1", "w-2", "w-3"], 0]);
    book.stop();
  });

  test("and of a kind that is not known does not hide what is before it on the device, without a network", async () => {
    const storage = new MemoryStorage();
    const all = Array.from({ length: 130 }, (_, index) => entry(index + 1, false, index < 60 ? "message" : "reaction"));
    const [[name = "", record = ""] = []] = stored(130);
    await storage.write({ put: new Map([[name, record], ...all.map((each): [string, string] => [keys.entry(NAME, each.seq), JSON.stringify(each)])]) });
    const environment = platformEnvironment();
    const asked: unknown[] = [];
    const request = (frame: unknown) => (asked.push(frame), Promise.reject(new Error("there is no network")));
    const book = new Book(environment, new Journal(storage, environment.clock, () => undefined), keys, { online: false, request } as never);
    await book.load();
    await book.loadOutbox();
    const chat = book.conversation({ member: BEN });
    chat.messages.subscribe(() => undefined);
    await pass(5_000);
    expect(shown(chat)).toHaveLength(30);
    expect(asked).toEqual([]);
    book.stop();
  });

  for (const [unknown, messages, least] of [[70, 20, 130], [5_000, 0, 1_000]] as const) {
    test(`and of a kind that is not known (${unknown}) does not hide what is before it, as far as that is near`, async () => {
      const storage = new MemoryStorage();
      const asked: number[] = [];
      const { book } = await opened(storage, async ({ type, before = 0 }) => {
        if (type !== "history.get") return { type: "ok" };
        asked.push(before);
        const page = Array.from({ length: Math.min(50, before - 1) }, (_, index) => before - Math.min(50, before - 1) + index);
        return { type: "history", entries: page.map((seq) => entry(seq, false, seq > 60 ? "reaction" : "message")) };
      });
      await book.loadOutbox();
      sync(book, 60 + unknown);
      const chat = book.conversation({ member: BEN });
      chat.messages.subscribe(() => undefined);
      await pass(5_000);
      expect(shown(chat).length).toBeGreaterThanOrEqual(messages);
      expect(chat.messages.getSnapshot().ready).toBe(true);
      // As much as is kept, at most.
      expect(60 + unknown - Math.min(...asked)).toBeLessThanOrEqual(least);
      book.stop();
    });
  }
});
