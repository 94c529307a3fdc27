import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { MemberId, Message } from "../src/protocol.js";
import type { ConversationHandle, ConversationView, MessagesState, MessageView } from "../src/types.js";
import { Value } from "../src/value.js";
import { Observer } from "./support/checker.js";
import { Device } from "./support/device.js";
import { Server } from "./support/server.js";

/** The checker sees what is wrong: each rule is broken once. */

const ME = "aaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER = "bbbbbbbbbbbbbbbbbbbbbbbb";

const theirs = (seq: number, key = `k${seq}`): MessageView => ({ key, seq, sender: OTHER, own: false, content: `w-b-${seq}`, at: seq });
const own = (seq: number | undefined, status: MessageView["status"], key: string, content = key): MessageView => ({
  key,
  sender: ME,
  own: true,
  content,
  at: 1,
  ...(seq === undefined ? {} : { seq }),
  ...(status ? { status } : {}),
});

describe("the checker", () => {
  let server: Server;
  let device: Device;
  beforeAll(async () => {
    server = await Server.start();
    device = await Device.make("checked", server);
  }, 40_000);
  afterAll(async () => {
    await device.remove();
    await server.remove();
  });

  /** What it says about windows that follow each other. */
  function said(...windows: (readonly MessageView[] | Partial<MessagesState>)[]): string {
    const observer = new Observer(device, ME);
    const messages = new Value<MessagesState>({ messages: [], ready: false, hasOlder: false, loadingOlder: false, readUpTo: 0 });
    const view: ConversationView = { key: "c", kind: "direct", others: [OTHER], lastAt: 1, unread: 0, unreadMore: false, typing: [] };
    const nothing = (): Promise<void> => Promise.resolve();
    const handle: ConversationHandle = { key: "c", info: new Value(view), messages, send: () => Promise.resolve("k"), retry: nothing, edit: nothing, drop: nothing, markRead: () => undefined, loadOlder: nothing, configured: () => undefined, find: () => Promise.resolve(undefined) };
    observer.open(handle);
    for (const window of windows) messages.set({ ...messages.getSnapshot(), ready: true, ...("length" in window ? { messages: window } : window) });
    return observer.violations.join("\n");
  }

  test("is content with what is right", () => {
    const [one, two] = [theirs(1), theirs(2)];
    const mine = own(undefined, "queued", "w-a-1");
    expect(said([one], [one, mine], [one, two, { ...mine, status: "sending" }], [one, two, own(3, "sent", "w-a-1")], [one, two, own(3, "read", "w-a-1")])).toBe("");
    expect(said([theirs(3)], [theirs(2), theirs(3)].slice(0, 0))).not.toBe("");
  });

  test.each<[string, (readonly MessageView[])[], RegExp]>([
    ["a hole", [[theirs(1), theirs(3)]], /hole between 1 and 3/],
    ["a key twice", [[theirs(1, "k"), theirs(2, "k")]], /there twice/],
    ["a seq twice", [[theirs(1, "x"), theirs(1, "y")]], /1 comes after 1/],
    ["an order that is wrong", [[theirs(2), theirs(1)]], /1 comes after 2/],
    ["a message that vanishes", [[theirs(1), theirs(2)], [theirs(1)]], /vanished/],
    ["one of one's own that vanishes before it is sent", [[own(undefined, "queued", "w-a-1")], []], /vanished/],
    ["a place that changes", [[theirs(1), theirs(2, "x")], [theirs(1, "y"), theirs(2), theirs(3, "x")]], /was at 2 and is at 3/],
    ["a status that goes back", [[own(1, "read", "w-a-1")], [own(1, "delivered", "w-a-1")]], /was read and is delivered/],
    ["a stored message after one that is not", [[own(undefined, "queued", "w-a-1"), theirs(1)]], /a stored message after one that is not/],
    ["delivered without a place", [[own(undefined, "delivered", "w-a-1")]], /at undefined is delivered/],
    ["queued with a place", [[own(1, "queued", "w-a-1")]], /at 1 is queued/],
    ["another object for nothing", [[theirs(1)], [theirs(1)]], /nothing of it has changed/],
    ["whose it is", [[{ ...theirs(1), own: true, status: "sent" }]], /own is true/],
  ])("sees %s", (_, windows, expected) => {
    expect(said(...windows)).toMatch(expected);
  });

  test("sees that it was ready and is not any more", () => {
    expect(said([theirs(1)], { ready: false })).toMatch(/was ready/);
  });

  const conversation = "c".repeat(24);
  const message = (seq: number): Message => ({ id: `${seq}`.padStart(24, "0"), conversation, seq, sender: OTHER as MemberId, client_id: "x", content: `w-b-${seq}`, at: new Date(0).toISOString() });
  const push = (seq: number): void => device.onReceived?.({ type: "entry", entry: { kind: "message", ...message(seq) } });
  /** What comes before a place is asked for, and comes. */
  function page(id: string, before: number, ...seqs: number[]): void {
    device.onSent?.({ type: "history.get", id, conversation, before, limit: 50 });
    device.onReceived?.({ type: "history", id, conversation, entries: seqs.map((seq) => ({ kind: "message", ...message(seq) })), more: false });
  }

  test("sees that something is acknowledged that was never stored", () => {
    const observer = new Observer(device, ME);
    push(1);
    device.disk.apply({ put: new Map([["e", '{"content":"w-b-1"}']]) });
    device.onSent?.({ type: "message.delivered", conversation, seq: 1 });
    expect(observer.violations).toEqual([]);
    push(2);
    device.onSent?.({ type: "message.delivered", conversation, seq: 2 });
    expect(observer.violations.join()).toMatch(/delivered up to 2 was said, and 2 \(w-b-2\) was never stored/);
  });

  test("is content when what is newer is acknowledged while a page of older ones is being stored", () => {
    const observer = new Observer(device, ME);
    push(14);
    device.disk.apply({ put: new Map([["e14", '{"content":"w-b-14"}']]) });
    page("1", 14, 12, 13);
    device.onSent?.({ type: "message.delivered", conversation, seq: 14 });
    expect(observer.violations).toEqual([]);
  });

  test("sees that what was missing is acknowledged, and was never stored, also if it has come as a page", () => {
    const observer = new Observer(device, ME);
    push(24);
    device.disk.apply({ put: new Map([["e24", '{"content":"w-b-24"}']]) });
    page("1", 27, 25, 26);
    page("2", 25, 25);
    device.onSent?.({ type: "message.delivered", conversation, seq: 26 });
    expect(observer.violations.map((line) => /and (\d+) /.exec(line)?.[1])).toEqual(["25", "26"]);
  });
});
