import { randomUUID } from "node:crypto";

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Account } from "../src/account.js";
import { MembersBookError } from "../src/errors.js";
import type { Client } from "../src/index.js";
import { Members } from "../src/members.js";
import { People } from "../src/people.js";
import type { MessageDocument } from "../src/protocol.js";
import type { Reader } from "./support/reader.js";
import { pass, until } from "./support/until.js";
import { contents, credentials, shows, statusOf, talk, World } from "./support/world.js";

vi.setConfig({ testTimeout: 30_000 });

let world: World;
beforeEach(async () => {
  world = await World.make();
}, 40_000);
afterEach(async (context) => {
  if (context.task.result?.state === "fail") {
    for (const device of world.devices) console.error(`--- ${device.name}\n${device.log.slice(-60).join("\n")}`);
  }
  await world.end();
}, 20_000);

/** The code of what it throws. */
async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (cause) {
    return cause instanceof MembersBookError ? cause.code : `something else: ${String(cause)}`;
  }
  return "nothing";
}

/** The token of the newest link that a server without SMTP_URL wrote to its log. */
async function linkToken(page: "reset" | "verify", known = 0): Promise<string> {
  const tokens = () => [...world.server.log.matchAll(new RegExp(`/app/${page}\\?token=([\\w-]{43})`, "g"))].map((found) => found[1]!);
  await until(`a link to ${page}`, () => tokens().length > known);
  return tokens().at(-1)!;
}

describe("accounts", () => {
  test("the address is changed with a link to the new one, and the password", async () => {
    const ana = await world.member("Ana");
    const device = await world.device("phone");
    const client = await device.launch();
    await client.login({ email: ana.person.email, password: ana.person.password });
    const account = new Account(client.api);
    const email = `new-${ana.person.email}`;
    expect(await codeOf(account.changeEmail({ email, password: "not this one" }))).toBe("validation_failed");
    const known = [...world.server.log.matchAll(/\/app\/verify\?token=/g)].length;
    expect(await account.changeEmail({ email, password: ana.person.password })).toBeUndefined();
    const link = await linkToken("verify", known);
    expect((await client.refreshMember()).email).toBe(ana.person.email);
    expect(await codeOf(account.verifyEmail(link))).toBe("validation_failed");
    await account.verifyEmail(link, ana.person.password);
    await until("the record shows it", () => {
      const session = client.session.getSnapshot();
      return session.status === "signed_in" && session.member.email === email && session.member.email_verified_at !== null;
    });
  });

  test("a forgotten password is set anew with a link, and the address is verified by one", async () => {
    const ana = await world.member("Ana");
    const device = await world.device("phone");
    const client = await device.launch();
    await client.login({ email: ana.person.email, password: ana.person.password });
    await new Account(client.api).setLanguage("pt");
    expect((await client.refreshMember()).language).toBe("pt");
    await new Account(client.api).sendVerification();
    const verify = await linkToken("verify");
    await new Account(client.api).verifyEmail(verify);
    expect(await codeOf(new Account(client.api).verifyEmail(verify))).toBe("link_invalid");
    await until("the record shows it", () => {
      const session = client.session.getSnapshot();
      return session.status === "signed_in" && session.member.email_verified_at !== null;
    });
    await new Account(client.api).forgotPassword("nobody@example.com");
    await new Account(client.api).forgotPassword(ana.person.email);
    const reset = await linkToken("reset");
    await new Account(client.api).resetPassword(reset, "battery staple");
    await until("the session is over", () => client.session.getSnapshot().status === "signed_out");
    expect(client.session.getSnapshot()).toMatchObject({ reason: "session_over" });
    // Others use up what strangers may try, and the device is none.
    const stranger = await (await world.device("stranger")).launch();
    const guess = (): Promise<string> => codeOf(stranger.api.login({ email: ana.person.email, password: "a wrong one" }));
    for (let number = 0; number < 10; number++) expect(await guess()).toBe("invalid_credentials");
    expect(await guess()).toBe("rate_limited");
    await client.login({ email: ana.person.email, password: "battery staple" });
    expect(client.session.getSnapshot().status).toBe("signed_in");
  });

  test("somebody registers, is signed in, and is there after a restart of the app", async () => {
    const device = await world.device("phone");
    const client = await device.launch();
    expect(client.session.getSnapshot().status).toBe("signed_out");
    expect(client.connection.getSnapshot().status).toBe("offline");
    const registered = await client.register({ name: "Ana Lima", email: `ana-${randomUUID()}@example.com`, password: "correct horse" });
    if (registered.status !== "signed_in") throw new Error("anybody may register here");
    const { member } = registered;
    expect(member.name).toBe("Ana Lima");
    await device.online();
    device.kill();
    const again = await device.launch();
    expect(again.session.getSnapshot()).toMatchObject({ status: "signed_in", id: member._id, member: { name: "Ana Lima" } });
    await device.online();
  });

  test("who is signed in is known without a network, and start does not wait for one", async () => {
    const ana = await world.member("Ana");
    const { device } = await world.signedIn(ana, "phone");
    device.kill();
    device.proxy.reach = "dead";
    const client = await device.launch();
    expect(client.session.getSnapshot()).toMatchObject({ status: "signed_in", id: ana.person.id });
    device.proxy.cut();
    device.proxy.reach = "up";
    client.wake();
    await device.online();
  });

  test("a wrong password, and an address that is taken, are typed errors", async () => {
    const ana = await world.member("Ana");
    const client = await (await world.device("phone")).launch();
    expect(await codeOf(client.login({ email: ana.person.email, password: "another one" }))).toBe("invalid_credentials");
    expect(await codeOf(client.register({ name: "Ana", email: ana.person.email, password: "another one" }))).toBe("email_taken");
    expect(client.session.getSnapshot().status).toBe("signed_out");
  });

  test("logout ends the session and forgets everything of the member", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const phone = await world.signedIn(ana, "phone");
    const chat = talk(phone, ben);
    await chat.send("w-a-1");
    await world.settled();
    const { device } = phone;
    const token = device.accessToken;
    await device.client.logout();
    expect(device.client.session.getSnapshot()).toMatchObject({ status: "signed_out", reason: "logged_out" });
    expect(device.client.conversations.getSnapshot().conversations).toHaveLength(0);
    expect(device.disk.holds("w-a-1")).toBe(false);
    expect(device.disk.vault).toBeNull();
    const answer = await fetch(`${world.server.url}/api/members/me`, { headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBe(401);
    expect(await codeOf(chat.send("nobody is there"))).toBe("token_missing");
  });

  test("logout without a network forgets the tokens and everything of the member", async () => {
    const ana = await world.member("Ana");
    const { device } = await world.signedIn(ana, "phone");
    device.proxy.reach = "refused";
    device.proxy.cut();
    await device.client.logout();
    expect(device.client.session.getSnapshot().status).toBe("signed_out");
    expect(device.disk.vault).toBeNull();
  });

  test("what one member had on the device is not shown to the next one", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device } = await world.signedIn(ana, "phone");
    await device.client.conversation({ member: ben.person.id }).send("w-a-1");
    await until("it is sent", () => device.client.unsent() === 0);
    await device.client.logout();
    device.onLaunch = undefined;
    await device.client.login(credentials(ben.person));
    await until("Ben has it", () => device.client.conversations.getSnapshot().conversations[0]?.unread === 1);
    expect(device.client.session.getSnapshot()).toMatchObject({ id: ben.person.id });
    expect(device.client.conversations.getSnapshot().conversations[0]?.last).toMatchObject({ own: false, content: "w-a-1" });
  });

  test("a changed profile is there: one's own over refreshMember, another's by a push", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
    await talk(a, ben).send("w-a-1");
    await world.settled();
    const card = new People(b.device.client).member(ana.person.id);
    const release = card.subscribe(() => undefined);
    await until("the name is known", () => card.getSnapshot()?.name === "Ana");
    await new Members(a.device.client.api).updateMe({ name: "Ana Maria" });
    await until("the new name is known", () => card.getSnapshot()?.name === "Ana Maria");
    expect((await a.device.client.refreshMember()).name).toBe("Ana Maria");
    expect(a.device.client.session.getSnapshot()).toMatchObject({ member: { name: "Ana Maria" } });
    release();
  });

  test("names are kept: for People that was made with the client they are there with the first screen, and nobody is asked for again", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device } = await world.signedIn(ana, "a");
    const name = (client: Client) => {
      const card = new People(client).member(ben.person.id);
      card.subscribe(() => undefined);
      return () => card.getSnapshot()?.name;
    };
    await until("the name is known", ((known) => () => known() === "Ben")(name(device.client)));
    await device.stop();
    device.asked.length = 0;
    const first: unknown[] = [];
    device.onLaunch = (client) => {
      const people = new People(client);
      client.session.subscribe(() => first.push(client.session.getSnapshot().status, people.member(ben.person.id).getSnapshot()?.name));
    };
    await device.launch();
    await device.online();
    expect(first).toEqual(["signed_in", "Ben"]);
    await device.stop();
    // Made later, it is read before the server is asked.
    device.onLaunch = undefined;
    const client = await device.launch();
    await device.online();
    await until("the name is read", ((known) => () => known() === "Ben")(name(client)));
    expect(device.asked.filter(({ path }) => path.startsWith(`/api/members/${ben.person.id}`))).toEqual([]);
  });

  test("a profile that changes while no People is there is not shown as it was", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
    await talk(a, ben).send("w-a-1");
    const name = (client: Client) => {
      const card = new People(client).member(ben.person.id);
      card.subscribe(() => undefined);
      return () => card.getSnapshot()?.name;
    };
    await until("the name is known", ((known) => () => known() === "Ben")(name(a.device.client)));
    await a.device.stop();
    let told = false;
    a.device.onReceived = (frame) => {
      told ||= frame.type === "member";
    };
    const client = await a.device.launch();
    await a.device.online();
    await new Members(b.device.client.api).updateMe({ name: "Benjamin" });
    await until("it is told", () => told);
    await until("the new name is shown", ((known) => () => known() === "Benjamin")(name(client)));
  });
});

describe("messages", () => {
  test("a message is shown at once, then sent, delivered and read", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    await shows(chat, "it is ready", ({ ready }) => ready);
    const sending = a.send(chat, ben.person.id, "w-a-1");
    expect(contents(chat)).toEqual(["w-a-1"]);
    expect(statusOf(chat, "w-a-1")).toMatch(/queued|sending/);
    await sending;
    await shows(chat, "it is sent", () => statusOf(chat, "w-a-1") === "sent");
    const key = chat.messages.getSnapshot().messages[0]?.key;
    const b = await world.signedIn(ben, "b");
    await shows(chat, "it is delivered", () => statusOf(chat, "w-a-1") === "delivered");
    const theirs = talk(b, ana);
    await shows(theirs, "it is there", ({ messages }) => messages.length === 1);
    expect(b.device.client.unread.getSnapshot()).toEqual({ total: 1, more: false });
    theirs.markRead();
    expect(theirs.info.getSnapshot().unread).toBe(0);
    await shows(chat, "it is read", () => statusOf(chat, "w-a-1") === "read");
    expect(chat.messages.getSnapshot().messages[0]?.key).toBe(key);
    await world.settled();
  });

  test("the handle, its key and its target are the same, before and after the first message", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const { client } = a.device;
    const chat = talk(a, ben);
    expect(client.conversation({ member: ben.person.id })).toBe(chat);
    const { key } = chat;
    await a.send(chat, ben.person.id, "w-a-1");
    await world.settled();
    const id = chat.info.getSnapshot().id;
    expect(id).toBeDefined();
    expect(chat.info.getSnapshot().key).toBe(key);
    expect(client.conversation({ conversation: id ?? "" })).toBe(chat);
    expect(client.conversation(client.target(key))).toBe(chat);
    expect(client.conversations.getSnapshot().conversations.map((view) => view.key)).toEqual([key]);
  });

  test("many messages at once keep their order, from both sides", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
    const [there, back] = [talk(a, ben), talk(b, ana)];
    await Promise.all(Array.from({ length: 150 }, (_, n) => Promise.all([a.send(there, ben.person.id, `w-a-${n}`), b.send(back, ana.person.id, `w-b-${n}`)])));
    await world.settled();
    expect(contents(there)).toHaveLength(300);
  });

  test("an empty text and one that is too long are refused at once", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const chat = talk(await world.signedIn(ana, "a"), ben);
    expect(await codeOf(chat.send("  \n\u3000"))).toBe("content_empty");
    expect(await codeOf(chat.send("x".repeat(4001)))).toBe("content_too_long");
    expect(contents(chat)).toEqual([]);
    await chat.send("😀".repeat(4000));
    await shows(chat, "it is sent", ({ messages }) => messages[0]?.status === "sent");
  });

  test("two devices of one member show the same, and what one reads is read on the other", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [phone, laptop, b] = [await world.signedIn(ana, "phone"), await world.signedIn(ana, "laptop"), await world.signedIn(ben, "b")];
    const chat = talk(phone, ben);
    await phone.send(chat, ben.person.id, "w-phone-1");
    const other = talk(laptop, ben);
    await shows(other, "the laptop has it", ({ messages }) => messages[0]?.own === true);
    await laptop.send(other, ben.person.id, "w-laptop-1");
    const theirs = talk(b, ana);
    for (let n = 0; n < 3; n += 1) await b.send(theirs, ana.person.id, `w-b-${n}`);
    await until("both count three", () => [phone, laptop].every(({ device }) => device.client.unread.getSnapshot().total === 3));
    chat.markRead();
    await until("the laptop counts none", () => laptop.device.client.unread.getSnapshot().total === 0);
    await world.settled();
  });

  test("what was read in part on another device is counted by the server, also where the conversation is not open", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const device = await world.device("tab");
    const client = await device.launch();
    await client.login(credentials(ana.person));
    await device.online();
    const sent: MessageDocument[] = [];
    for (let n = 0; n < 8; n += 1) sent.push(await ben.send(ana.person.id, `w-b-${n}`));
    await until("it counts eight", () => client.unread.getSnapshot().total === 8);
    // Nothing is to be said any more of what has come.
    await pass(3_000);
    const fifth = sent[4];
    if (!fifth) throw new Error("not sent");
    await ana.read(fifth);
    await until("it counts three", () => client.unread.getSnapshot().total === 3, { ms: 3_000, explain: () => client.unread.getSnapshot() });
  });

  test("typing is shown, and ends: when it is said, with the message, and by itself", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
    const [there, back] = [talk(a, ben), talk(b, ana)];
    await a.send(there, ben.person.id, "w-a-1");
    await world.settled();
    // Who shows it has asked for it.
    new People(b.device.client);
    const people = new People(a.device.client);
    const typing = (): number => back.info.getSnapshot().typing.length;
    people.typing(there, true);
    await until("it is shown", () => typing() === 1);
    people.typing(there, false);
    await until("it ends", () => typing() === 0);
    people.typing(there, true);
    await until("it is shown again", () => typing() === 1);
    await a.send(there, ben.person.id, "w-a-2");
    await until("the message ends it", () => typing() === 0, { ms: 3000 });
    people.typing(there, true);
    await until("it is shown once more", () => typing() === 1);
    a.device.kill();
    await until("it ends with the app", () => typing() === 0, { ms: 8000 });
  });

  test("presence is shown as long as somebody looks, over a reconnect too", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const [a, b] = [await world.signedIn(ana, "a"), await world.signedIn(ben, "b")];
    await talk(a, ben).send("w-a-1");
    const presence = new People(a.device.client).presence(ben.person.id);
    const release = presence.subscribe(() => undefined);
    const shown = (status: string): Promise<unknown> => until(`Ben is ${status}`, () => presence.getSnapshot().status === status, { explain: () => presence.getSnapshot() });
    await shown("online");
    b.device.client.setStatus("away");
    await shown("away");
    a.device.proxy.cut();
    await a.device.online();
    await shown("away");
    b.device.client.setStatus("online");
    await shown("online");
    await b.device.stop();
    await shown("offline");
    expect(presence.getSnapshot().lastSeen).toBeGreaterThan(0);
    release();
  });

  test("5,000 messages while the app was closed: all are there, page by page", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    await a.send(talk(a, ben), ben.person.id, "w-a-0");
    await world.settled();
    a.device.kill();
    for (let n = 0; n < 5000; n += 50) {
      // In their order: 50 at once, of one connection or another, would be in any.
      await Promise.all(Array.from({ length: 50 }, (_, k) => ben.send(ana.person.id, `w-b-${n + k}`)));
    }
    await a.device.launch();
    await a.device.online();
    const chat = talk(a, ben);
    await until("unread is counted", () => chat.info.getSnapshot().unread === 1000 && chat.info.getSnapshot().unreadMore);
    await world.settled(60_000);
    expect(contents(chat)).toHaveLength(5001);
    chat.markRead();
    await world.settled();
  }, 150_000);

  test("a long absence with many conversations: all of them are in the list", async () => {
    const ana = await world.member("Ana");
    const others: Reader[] = [];
    for (let n = 0; n < 60; n += 1) others.push(await world.member(`Other ${n}`));
    const [oldest] = others;
    if (!oldest) throw new Error("nobody");
    for (const [n, other] of others.entries()) for (let k = 0; k < 3; k += 1) await other.send(ana.person.id, `w-o${n}-${k}`);
    const a = await world.signedIn(ana, "a");
    await until("all are there", () => a.device.client.conversations.getSnapshot().conversations.length === 60, { explain: () => a.device.client.conversations.getSnapshot().conversations.length });
    expect(a.device.client.unread.getSnapshot()).toEqual({ total: 180, more: false });
    const first = talk(a, oldest);
    await shows(first, "it is ready", ({ ready }) => ready);
    await first.loadOlder();
    await shows(first, "the oldest conversation is complete", ({ messages, hasOlder }) => messages.length === 3 && !hasOlder);
    world.unbroken();
  }, 60_000);
});

describe("messages that fail", () => {
  /** Ana has written to Ben and Eva; then an administrator deactivates Ben. */
  async function deactivated() {
    const [ana, ben, eva, admin] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva"), await world.member("Admin")];
    world.server.admin("promote", "--email", admin.person.email);
    const a = await world.signedIn(ana, "a");
    const [toBen, toEva] = [talk(a, ben), talk(a, eva)];
    await a.send(toBen, ben.person.id, "w-a-1");
    await until("it is sent", () => a.device.client.unsent() === 0);
    const active = (is_active: boolean): Promise<unknown> => admin.ask("PUT", `/api/admin/members/${ben.person.id}/active`, { is_active });
    await active(false);
    return { a, ana, ben, eva, toBen, toEva, active };
  }

  test("it is shown as failed with the reason, and holds back later ones of its conversation only", async () => {
    const { a, ana, ben, eva, toBen, toEva, active } = await deactivated();
    await a.send(toBen, ben.person.id, "w-a-2");
    await a.send(toBen, ben.person.id, "w-a-3");
    await a.send(toEva, eva.person.id, "w-a-4");
    await shows(toBen, "it has failed", () => statusOf(toBen, "w-a-2") === "failed");
    const failed = toBen.messages.getSnapshot().messages.find(({ content }) => content === "w-a-2");
    expect(failed?.problem).toMatchObject({ code: "recipient_deactivated", verdict: "fix" });
    await shows(toEva, "the other conversation goes on", () => statusOf(toEva, "w-a-4") === "sent");
    expect(statusOf(toBen, "w-a-3")).toBe("queued");
    expect(a.device.client.unsent()).toBe(2);
    // It is there after a restart of the app, and is not sent by itself.
    await active(true);
    a.device.kill();
    await a.device.launch();
    await a.device.online();
    const again = talk(a, ben);
    await shows(again, "it is still there", () => statusOf(again, "w-a-2") === "failed" && statusOf(again, "w-a-3") === "queued");
    expect(again.messages.getSnapshot().messages.find(({ content }) => content === "w-a-2")?.problem?.code).toBe("recipient_deactivated");
    // Sent again, everything goes, in its order.
    await again.retry(failed?.key ?? "");
    await shows(again, "everything is sent", () => statusOf(again, "w-a-2") === "sent" && statusOf(again, "w-a-3") === "sent");
    const log = await ana.messages(ben.person.id);
    expect(log.map(({ content }) => content)).toEqual(["w-a-1", "w-a-2", "w-a-3"]);
    world.unbroken();
  });

  test("it can be edited: the new text is sent in its place", async () => {
    const { a, ana, ben, toBen, active } = await deactivated();
    await a.send(toBen, ben.person.id, "w-a-2");
    await a.send(toBen, ben.person.id, "w-a-3");
    await shows(toBen, "it has failed", () => statusOf(toBen, "w-a-2") === "failed");
    await active(true);
    const key = toBen.messages.getSnapshot().messages.find(({ content }) => content === "w-a-2")?.key ?? "";
    await toBen.edit(key, "w-a-20");
    await shows(toBen, "both are sent", () => statusOf(toBen, "w-a-20") === "sent" && statusOf(toBen, "w-a-3") === "sent");
    expect((await ana.messages(ben.person.id)).map(({ content }) => content)).toEqual(["w-a-1", "w-a-20", "w-a-3"]);
    expect(contents(toBen)).toEqual(["w-a-1", "w-a-20", "w-a-3"]);
  });

  test("it can be dropped: the later ones go", async () => {
    const { a, ana, ben, toBen, active } = await deactivated();
    await a.send(toBen, ben.person.id, "w-a-2");
    await a.send(toBen, ben.person.id, "w-a-3");
    await shows(toBen, "it has failed", () => statusOf(toBen, "w-a-2") === "failed");
    await active(true);
    const sent = a.sent.find(({ content }) => content === "w-a-2");
    if (sent) sent.dropped = true;
    await toBen.drop(sent?.key ?? "");
    await shows(toBen, "the later one is sent", () => statusOf(toBen, "w-a-3") === "sent");
    expect(contents(toBen)).toEqual(["w-a-1", "w-a-3"]);
    expect((await ana.messages(ben.person.id)).map(({ content }) => content)).toEqual(["w-a-1", "w-a-3"]);
    a.device.kill();
    await a.device.launch();
    const again = talk(a, ben);
    await shows(again, "it does not come back", ({ ready, messages }) => ready && messages.length === 2);
    world.unbroken();
  });

  test("a rate limit is waited for, and everything is sent once and in order", async () => {
    await world.server.restart({ RATE_MESSAGES: "20", RATE_MESSAGES_BURST: "5" });
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    await Promise.all(Array.from({ length: 40 }, (_, n) => a.send(chat, ben.person.id, `w-a-${n}`)));
    await world.settled(30_000);
  }, 45_000);

  test("a message that is not sent yet can be edited while there is no network", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    a.device.proxy.reach = "refused";
    a.device.proxy.cut();
    await until("the client knows", () => a.device.client.connection.getSnapshot().status !== "online");
    const key = await chat.send("w-a-1");
    await chat.edit(key, "w-a-10");
    a.device.proxy.heal();
    a.device.client.wake();
    await shows(chat, "it is sent", () => statusOf(chat, "w-a-10") === "sent");
    expect((await ana.messages(ben.person.id)).map(({ content }) => content)).toEqual(["w-a-10"]);
  });
});

