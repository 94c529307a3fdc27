import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Account } from "../src/account.js";
import { Members } from "../src/members.js";
import { SCHEMA_KEY } from "../src/records.js";
import type { Asked, Device } from "./support/device.js";
import { ask } from "./support/reader.js";
import { pass, until } from "./support/until.js";
import { credentials, shows, statusOf, talk, World } from "./support/world.js";

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

/** A member whose app is closed, and whose access token has expired meanwhile. */
async function withExpiredToken() {
  const ana = await world.member("Ana");
  const a = await world.signedIn(ana, "a");
  const { device } = a;
  // The next token is short, and is the last one of this run.
  device.tokenLife = 1500;
  const first = device.accessToken;
  await device.client.login(credentials(ana.person));
  device.kill("applied");
  expect(device.accessToken).not.toBe(first);
  await until("the token is over", async () => (await fetch(`${world.server.url}/api/members/me`, { headers: { authorization: `Bearer ${device.accessToken}` } })).status === 401);
  device.tokenLife = undefined;
  device.asked.length = 0;
  return { ana, a, device };
}

const refreshes = (device: Device): Asked[] => device.asked.filter(({ path }) => path === "/api/auth/refresh");

describe("guesses", () => {
  test("a device on which the member was is let in while strangers guess, and others are not", async () => {
    const ana = await world.member("Ana");
    const { device } = await world.signedIn(ana, "a");
    await device.client.logout();
    const guess = (password: string) => fetch(`${world.server.url}/api/auth/login`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ...credentials(ana.person), password }),
    });
    for (let n = 0; n < 10; n++) expect((await guess(`guess ${n}`)).status).toBe(401);
    expect((await guess(credentials(ana.person).password)).status).toBe(429);
    expect((await device.client.login(credentials(ana.person)))._id).toBe(ana.person.id);
  });
});

describe("connections", () => {
  test("a send while the server is down, the app killed and started again: it is sent once", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    await world.server.kill();
    await a.send(talk(a, ben), ben.person.id, "w-a-1");
    a.device.kill("lost");
    const client = await a.device.launch();
    expect(client.unsent()).toBe(1);
    const chat = talk(a, ben);
    await shows(chat, "it is there without a server", () => statusOf(chat, "w-a-1") === "queued");
    expect(client.conversations.getSnapshot().conversations[0]?.last?.content).toBe("w-a-1");
    await world.server.launch();
    client.wake();
    await world.settled();
  });

  test("an answer that is lost: the message is sent again and stored once", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    // Nothing of the server's comes back any more, and the app is killed before it knows.
    a.device.proxy.setOpen({ frozen: true }, "down");
    await a.send(chat, ben.person.id, "w-a-1");
    await until("the server has it", async () => (await ana.messages(ben.person.id)).length === 1);
    a.device.kill("lost");
    await a.device.launch();
    await world.settled();
  });

  test("an answer that is lost, and then so much comes that the window begins anew: the message is shown once, in its place", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    for (let n = 0; n < 5; n += 1) await ben.send(ana.person.id, `w-b-${n}`);
    const chat = talk(a, ben);
    await shows(chat, "they are there", ({ messages }) => messages.length === 5);
    a.device.proxy.set({ frozen: true }, "down");
    await a.send(chat, ben.person.id, "w-a-1");
    await until("the server has it", async () => (await ana.messages(ben.person.id)).length === 6);
    a.device.kill("applied");
    for (let n = 5; n < 505; n += 50) await Promise.all(Array.from({ length: 50 }, (_, k) => ben.send(ana.person.id, `w-b-${n + k}`)));
    a.device.proxy.cut();
    a.device.proxy.heal();
    await a.device.launch();
    await world.settled();
  }, 60_000);

  test("a frozen socket is replaced after wake()", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    a.device.proxy.setOpen({ frozen: true });
    await ben.send(ana.person.id, "w-b-1");
    a.device.client.wake();
    await shows(chat, "what came meanwhile is there", ({ messages }) => messages.length === 1);
    await world.settled();
  });

  test("a frozen socket is replaced as soon if hints follow each other", async () => {
    const { device } = await world.signedIn(await world.member("Ana"), "a");
    device.proxy.setOpen({ frozen: true });
    const since = performance.now();
    await until("it is replaced", () => {
      if (device.opened === 1) device.client.wake();
      return device.opened > 1;
    }, { every: 500, ms: 8_000 });
    expect(performance.now() - since).toBeLessThan(4_500);
    await device.online();
  });

  for (const what of ["of a conversation that is not known", "of those that the sync had no room for"]) {
    test(`a list ${what} that is refused is asked for again on the same connection`, async () => {
      const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
      const device = await world.device("a");
      const client = await device.launch();
      let refused = 0;
      device.change = (frame) => {
        if (frame.type === "entry") return { ...frame, conversation: undefined };
        if (frame.type === "sync.done" && what.startsWith("of those")) return { ...frame, more: true };
        if (frame.type === "sync") return { ...frame, conversations: [] };
        if (frame.type !== "conversations" || refused > 0) return frame;
        refused += 1;
        return { type: "error", id: frame.id, code: "rate_limited", message: "too much", retry_after_ms: 1_000 };
      };
      if (what.startsWith("of those")) await ben.send(ana.person.id, "w-b-1");
      await client.login(credentials(ana.person));
      await device.online();
      if (!what.startsWith("of those")) await ben.send(ana.person.id, "w-b-1");
      await until("it was refused", () => refused > 0);
      await until("it is in the list", () => client.conversations.getSnapshot().conversations.length === 1, { ms: 5_000 });
      expect(device.opened).toBe(1);
      await until("it need not be listed again", () => device.disk.get(`${ana.person.id}/listing`) === undefined);
    });
  }

  test("wake() does not replace a socket that works", async () => {
    const { device } = await world.signedIn(await world.member("Ana"), "a");
    for (let n = 0; n < 5; n += 1) device.client.wake();
    await new Members(device.client.api).me();
    let pongs = 0;
    device.onReceived = (frame) => {
      if (frame.type === "pong") pongs += 1;
    };
    device.client.wake();
    await until("it was answered", () => pongs > 0);
    expect(device.opened).toBe(1);
    expect(device.client.connection.getSnapshot().status).toBe("online");
  });

  test("a wait for the next attempt ends with wake()", async () => {
    const { device } = await world.signedIn(await world.member("Ana"), "a");
    device.proxy.reach = "refused";
    device.proxy.cut();
    const { client } = device;
    await until("several attempts have failed", () => device.opened > 3, { ms: 15_000 });
    device.proxy.reach = "up";
    await until("it waits", () => client.connection.getSnapshot().retryAt !== undefined || client.connection.getSnapshot().status === "online");
    client.wake();
    await device.online(2000);
  }, 30_000);

  test("a server that stops says when to come back, and is found again", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    await world.server.stop();
    await until("the client knows", () => a.device.client.connection.getSnapshot().closeCode === 1001, { explain: () => a.device.client.connection.getSnapshot() });
    await a.send(talk(a, ben), ben.person.id, "w-a-1");
    await world.server.launch();
    await a.device.online(40_000);
    await world.settled();
  }, 60_000);

  test("the same device elsewhere: replaced, and wake() takes the connection back", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    await a.send(talk(a, ben), ben.person.id, "w-a-1");
    await world.settled();
    const copy = await world.device("copy");
    a.device.disk.copyTo(copy.disk);
    await copy.launch();
    await copy.online();
    await until("the first one is replaced", () => a.device.client.connection.getSnapshot().status === "replaced", { explain: () => a.device.client.connection.getSnapshot() });
    expect(a.device.client.connection.getSnapshot().closeCode).toBe(4409);
    const { opened } = a.device;
    await until("the copy is in charge", () => copy.client.connection.getSnapshot().status === "online");
    expect(a.device.opened).toBe(opened);
    a.device.client.wake();
    await a.device.online();
    await until("the copy is replaced", () => copy.client.connection.getSnapshot().status === "replaced");
    world.unbroken();
  });

  test("an administrator who disconnects everybody: they come back", async () => {
    const [ana, admin] = [await world.member("Ana"), await world.member("Admin")];
    world.server.admin("promote", "--email", admin.person.email);
    const { device } = await world.signedIn(ana, "a");
    await admin.ask("POST", `/api/admin/members/${ana.person.id}/disconnect`);
    await until("a new connection is there", () => device.opened === 2 && device.client.connection.getSnapshot().status === "online");
  });

  test("a storage that is full: what comes is shown, it says so, and nothing is acknowledged that is not kept", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    a.device.disk.isFull = true;
    await ben.send(ana.person.id, "w-b-1");
    await shows(chat, "it is shown", ({ messages }) => messages.length === 1);
    await until("it says so", () => a.device.client.connection.getSnapshot().storageFailing);
    await until("it was tried", () => a.device.disk.refused > 0);
    a.device.disk.isFull = false;
    await ben.send(ana.person.id, "w-b-2");
    await until("it is kept", () => a.device.disk.holds("w-b-1") && a.device.disk.holds("w-b-2"), { ms: 30_000 });
    await until("it says nothing any more", () => !a.device.client.connection.getSnapshot().storageFailing);
    await world.settled();
  }, 60_000);

  test("a storage that was full when the app was killed: what was not kept comes again", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    a.device.disk.isFull = true;
    await ben.send(ana.person.id, "w-b-1");
    await shows(chat, "it is shown", ({ messages }) => messages.length === 1);
    a.device.kill("lost");
    a.device.disk.isFull = false;
    await a.device.launch();
    await world.settled();
  });
});

describe("a storage that cannot be read for a while", () => {
  test("a chat that is opened says so, and shows what is kept as soon as it can be read, without a network", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const { device } = await world.signedIn(ana, "a");
    for (let n = 0; n < 30; n += 1) await ben.send(ana.person.id, `w-b-${n}`);
    await until("all are kept", () => device.disk.holds("w-b-29"));
    await device.stop();
    device.proxy.reach = "refused";
    device.disk.unreadable = /\/e\//;
    const client = await device.launch();
    const chat = client.conversation({ member: ben.person.id });
    chat.messages.subscribe(() => undefined);
    await shows(chat, "it says so", ({ messages, ready, problem }) => messages.length === 0 && !ready && problem?.code === "storage");
    device.disk.unreadable = undefined;
    await shows(chat, "all are there", ({ messages, ready, problem }) => messages.length === 30 && ready && !problem);
  });

  for (const [what, unreadable] of [["conversations", /\/c\//], ["unsent messages", /\/o\//]] as const) {
    test(`at the start (${what}): what was not sent is sent, before what is new`, async () => {
      const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
      const a = await world.signedIn(ana, "a");
      const { device } = a;
      device.proxy.reach = "refused";
      device.proxy.cut();
      await until("the client knows", () => device.client.connection.getSnapshot().status !== "online");
      await device.client.conversation({ member: ben.person.id }).send("w-a-1");
      await device.stop();
      device.proxy.heal();
      device.disk.unreadable = unreadable;
      const client = await device.launch();
      await device.online();
      expect(client.connection.getSnapshot().storageFailing).toBe(true);
      await client.conversation({ member: ben.person.id }).send("w-a-2");
      // Whoever asks after that has been answered after that.
      await new Members(client.api).me();
      if (what === "unsent messages") expect(await ana.messages(ben.person.id)).toEqual([]);
      device.disk.unreadable = undefined;
      const sent = async () => (await ana.messages(ben.person.id)).map(({ content }) => content);
      await until("both are sent", async () => (await sent()).length === 2, { explain: sent });
      expect(await sent()).toEqual(["w-a-1", "w-a-2"]);
      await until("nothing fails any more", () => !client.connection.getSnapshot().storageFailing);
    });
  }
});

describe("the app ends", () => {
  test("an upgrade of what is stored that has no room: it is the same device, and the upgrade is made when there is room", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const { device } = a;
    await a.send(talk(a, ben), ben.person.id, "w-a-1");
    await world.settled();
    const ids = new Set<string>();
    const { onSent } = device;
    device.onSent = (frame) => {
      if (frame.type === "hello") ids.add(frame.device.id);
      onSent?.(frame);
    };
    device.proxy.cut();
    await until("it has said which device it is", () => ids.size === 1);
    await device.online();
    device.kill("applied");
    const version = device.disk.get(SCHEMA_KEY);
    device.disk.apply({ put: new Map([[SCHEMA_KEY, "999"]]) });
    device.disk.isFull = true;
    await device.launch();
    await device.online();
    device.disk.isFull = false;
    await ben.send(ana.person.id, "w-b-1");
    await until("it stores again", () => device.disk.holds("w-b-1"), { ms: 30_000 });
    device.kill("applied");
    await device.launch();
    await device.online();
    expect(device.disk.get(SCHEMA_KEY)).toBe(version);
    expect([...ids]).toHaveLength(1);
    await world.settled();
  }, 60_000);

  test("killed right after the login: start() without a network says who is signed in, or says that it does not know yet, and goes on when the network is there", async () => {
    const ana = await world.member("Ana");
    const device = await world.device("a");
    await device.launch();
    // The tokens are kept, and the record of the member is not.
    device.disk.isFull = true;
    await device.client.login(credentials(ana.person));
    device.kill("lost");
    device.disk.isFull = false;
    device.proxy.reach = "refused";
    device.proxy.cut();
    let isStarted = false;
    void device.launch().then(() => (isStarted = true));
    await until("start() does not wait for the network", () => isStarted, { ms: 3000 });
    expect(device.client.session.getSnapshot().status).not.toBe("signed_out");
    device.proxy.reach = "up";
    device.client.wake();
    await device.online();
    expect(device.client.session.getSnapshot()).toMatchObject({ status: "signed_in", id: ana.person.id, member: { name: "Ana" } });
  });

  test("stop() keeps everything that was asked for before", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    await shows(chat, "it is ready", ({ ready }) => ready);
    a.device.proxy.reach = "refused";
    a.device.proxy.cut();
    a.device.disk.slowness = 30;
    const asked: string[] = [];
    for (let n = 0; n < 20; n += 1) {
      void a.send(chat, ben.person.id, `w-a-${n}`);
      asked.push(`w-a-${n}`);
      await pass(3);
    }
    await a.device.stop();
    expect(asked.filter((word) => !a.device.disk.holds(word))).toEqual([]);
    a.device.proxy.heal();
    await a.device.launch();
    await world.settled();
  });

  test("a message that send() has resolved for survives a kill at that moment", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    a.device.proxy.reach = "refused";
    a.device.proxy.cut();
    a.device.disk.slowness = 30;
    for (let round = 0; round < 10; round += 1) {
      const chat = talk(a, ben);
      for (let n = 0; n < 4; n += 1) {
        void a.send(chat, ben.person.id, `w-a-${round * 10 + n}`);
        await pass(3);
      }
      await a.send(chat, ben.person.id, `w-a-${round * 10 + 9}`);
      a.device.kill("lost");
      expect(a.device.disk.holds(`w-a-${round * 10 + 9}`)).toBe(true);
      await a.device.launch();
    }
    a.device.proxy.heal();
    a.device.client.wake();
    await world.settled();
  });
});

describe("tokens", () => {
  test("a token that expires is renewed without a disconnect", async () => {
    const ana = await world.member("Ana");
    const { device } = await world.signedIn(ana, "a", { tokenLife: 4000 });
    device.tokenLife = 60_000 * 10;
    const first = device.accessToken;
    await until("another token is there", () => device.accessToken !== first);
    await until("the first one is over", async () => {
      const answer = await fetch(`${world.server.url}/api/members/me`, { headers: { authorization: `Bearer ${first}` } });
      return answer.status === 401;
    });
    const { _id } = (await new Members(device.client.api).me()).value;
    expect(_id).toBe(ana.person.id);
    let pongs = 0;
    device.onReceived = (frame) => {
      if (frame.type === "pong") pongs += 1;
    };
    device.client.wake();
    await until("the connection lives", () => pongs > 0);
    expect(device.opened).toBe(1);
  });

  test("tokens that live for a minute are not renewed again and again", async () => {
    await world.server.restart({ ACCESS_TOKEN_TTL: "1m" });
    const { device } = await world.signedIn(await world.member("Ana"), "a");
    const started = performance.now();
    await until("five seconds have passed", () => performance.now() - started > 5000);
    expect(device.asked.filter(({ path }) => path === "/api/auth/refresh").length).toBeLessThanOrEqual(1);
    expect(device.client.connection.getSnapshot().status).toBe("online");
  });

  test("20 requests with a token that has expired: one refresh", async () => {
    const { ana, device } = await withExpiredToken();
    // Wrong by an hour: it cannot be known from the clock that the token is over.
    device.clockOffset = -3_600_000;
    const client = await device.launch();
    const members = await Promise.all(Array.from({ length: 20 }, () => new Members(client.api).me()));
    expect(members.every((me) => me.value._id === ana.person.id)).toBe(true);
    await device.online();
    expect(refreshes(device)).toHaveLength(1);
  });

  test("a clock that is wrong by an hour either way neither renews again and again nor logs out", async () => {
    const ana = await world.member("Ana");
    for (const offset of [3_600_000, -3_600_000]) {
      const { device } = await world.signedIn(ana, `wrong by ${offset}`);
      device.asked.length = 0;
      device.clockOffset = offset;
      device.proxy.cut();
      await device.online();
      // A connection that was cut may be found out by a request of its own.
      await until("a request is answered", async () => new Members(device.client.api).me());
      for (let n = 0; n < 10; n += 1) await new Members(device.client.api).me();
      expect(device.client.session.getSnapshot().status).toBe("signed_in");
      expect(device.asked.filter(({ path }) => path === "/api/auth/refresh").length).toBeLessThanOrEqual(1);
    }
  });

  test("a refresh whose request is lost is made again", async () => {
    const { device } = await withExpiredToken();
    device.proxy.cutRequest(/POST \/api\/auth\/refresh/);
    await device.launch();
    await device.online();
    expect(device.proxy.hasCuts).toBe(false);
    expect(refreshes(device).map(({ status }) => status)).toEqual([undefined, 200]);
  });

  test("a refresh whose answer is lost, three times: the session goes on", async () => {
    const { ana, a, device } = await withExpiredToken();
    const ben = await world.member("Ben");
    for (let n = 0; n < 3; n += 1) device.proxy.cutAnswer(/POST \/api\/auth\/refresh/, 40);
    await device.launch();
    await a.send(talk(a, ben), ben.person.id, "w-a-1");
    await until("it is online", () => device.client.connection.getSnapshot().status === "online", { ms: 20_000, explain: () => device.client.session.getSnapshot() });
    expect(device.client.session.getSnapshot().status).toBe("signed_in");
    expect(refreshes(device).filter(({ status }) => status === 401)).toEqual([]);
    await world.settled();
    expect(await ana.messages(ben.person.id)).toHaveLength(1);
  });

  test("a token that was renewed and has expired again before the server was reached does not end the session", async () => {
    const { device } = await withExpiredToken();
    device.clockOffset = -3_600_000;
    // The first hello is refused with 4401; the token that the refresh brings is short, and the server is not reached as long as it lives.
    device.tokenLife = 1500;
    let hellos = 0;
    device.onSent = (frame) => {
      if (frame.type === "hello") hellos += 1;
    };
    await device.launch();
    await until("the refresh is through", () => refreshes(device).some(({ status }) => status === 200));
    device.proxy.reach = "refused";
    device.proxy.cut();
    const renewed = device.accessToken;
    await until("the token is over", async () => (await fetch(`${world.server.url}/api/members/me`, { headers: { authorization: `Bearer ${renewed}` } })).status === 401);
    device.tokenLife = undefined;
    device.proxy.reach = "up";
    device.client.wake();
    await device.online();
    expect(device.client.session.getSnapshot().status).toBe("signed_in");
    expect(hellos).toBeGreaterThan(1);
  });

  test("a member sees where they are signed in, names it, and ends it from another device", async () => {
    const ana = await world.member("Ana");
    const [phone, laptop] = [await world.signedIn(ana, "phone"), await world.signedIn(ana, "laptop")];
    const { api } = phone.device.client;
    const { sessions } = await new Account(api).sessions();
    const own = sessions.find(({ is_current }) => is_current);
    const theirs = (await new Account(laptop.device.client.api).sessions()).sessions.find(({ is_current }) => is_current);
    expect(own?.device.platform).toBe("ios");
    expect(own?.address).toBeTruthy();
    const id = theirs?._id ?? "";
    expect((await new Account(api).renameSession(id, "The laptop")).device.name).toBe("The laptop");
    await new Account(api).endSession(id);
    await until("it is signed out there", () => laptop.device.client.session.getSnapshot().status === "signed_out");
    expect(laptop.device.client.session.getSnapshot()).toMatchObject({ reason: "session_over" });
    await expect(new Account(api).endSession(id)).rejects.toMatchObject({ code: "session_not_found" });
    await laptop.device.client.login(credentials(ana.person));
    await new Account(api).endOtherSessions();
    await until("it is signed out again", () => laptop.device.client.session.getSnapshot().status === "signed_out");
    expect((await new Account(api).sessions()).sessions.map(({ _id }) => _id)).toEqual([own?._id]);
    expect(phone.device.client.connection.getSnapshot().status).toBe("online");
  });

  test("a session that was ended elsewhere: signed out with the reason, and what was not sent is there after the login of the same member", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const { device } = a;
    const chat = talk(a, ben);
    await a.send(chat, ben.person.id, "w-a-1");
    await world.settled();
    device.proxy.reach = "refused";
    device.proxy.cut();
    await a.send(chat, ben.person.id, "w-a-2");
    await a.send(chat, ben.person.id, "w-a-3");
    await ask(world.server, "POST", "/api/auth/logout", { token: device.accessToken ?? "" });
    device.proxy.reach = "up";
    device.client.wake();
    await until("it is signed out", () => device.client.session.getSnapshot().status === "signed_out");
    expect(device.client.session.getSnapshot()).toEqual({ status: "signed_out", reason: "session_over" });
    expect(device.client.connection.getSnapshot().status).toBe("offline");
    expect(device.client.conversations.getSnapshot().conversations).toHaveLength(0);
    await until("the tokens are forgotten", () => device.disk.vault === JSON.stringify({ over: "session_over" }));
    device.kill();
    const again = await device.launch();
    expect(again.session.getSnapshot().status).toBe("signed_out");
    await again.login(credentials(ana.person));
    await device.online();
    await world.settled();
    expect((await ana.messages(ben.person.id)).map(({ content }) => content)).toEqual(["w-a-1", "w-a-2", "w-a-3"]);
  });

  test("a session that is over: nothing stays on the device but what was not sent", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const { device } = a;
    const chat = talk(a, ben);
    await ben.send(ana.person.id, "w-b-1");
    await a.send(chat, ben.person.id, "w-a-1");
    await world.settled();
    await until("it is kept", () => device.disk.holds("w-b-1"));
    device.proxy.reach = "refused";
    device.proxy.cut();
    await a.send(chat, ben.person.id, "w-a-2");
    await ask(world.server, "POST", "/api/auth/logout", { token: device.accessToken ?? "", body: { all: true } });
    device.proxy.reach = "up";
    device.client.wake();
    await until("it is signed out", () => device.client.session.getSnapshot().status === "signed_out");
    await until("it is done", () => device.disk.erasing.size === 0 && !device.disk.holds("w-b-1"));
    const keys = device.disk.range("0", "g").map(([key]) => key);
    expect(keys.filter((key) => key.startsWith(ana.person.id)).every((key) => key.startsWith(`${ana.person.id}/o/`))).toBe(true);
    expect(device.disk.holds("w-a-2")).toBe(true);
    // Killed before it could do anything, the next start does it.
    device.disk.apply({ put: new Map([[`${ana.person.id}/me`, JSON.stringify({ email: ana.person.email })]]) });
    device.disk.erasing.add(`${ana.person.id}-sent`);
    device.kill("lost");
    await device.launch();
    await until("it is done at the start", () => device.disk.erasing.size === 0);
    expect(device.disk.get(`${ana.person.id}/me`)).toBeUndefined();
    expect(device.disk.holds("w-a-2")).toBe(true);
  });

  test("what one member has not sent is never sent by another one, and nothing of the first is left when the other has signed in", async () => {
    const [ana, ben, eva] = [await world.member("Ana"), await world.member("Ben"), await world.member("Eva")];
    const device = await world.device("shared");
    await device.launch();
    await device.client.login(credentials(ana.person));
    await device.online();
    device.proxy.reach = "refused";
    device.proxy.cut();
    await device.client.conversation({ member: ben.person.id }).send("w-a-1");
    await ask(world.server, "POST", "/api/auth/logout", { token: device.accessToken ?? "" });
    device.proxy.reach = "up";
    device.client.wake();
    await until("it is signed out", () => device.client.session.getSnapshot().status === "signed_out");
    expect(device.disk.holds("w-a-1")).toBe(true);
    await device.client.login(credentials(eva.person));
    await device.online();
    expect(device.client.unsent()).toBe(0);
    await device.client.conversation({ member: ben.person.id }).send("w-e-1");
    await until("Eva's is sent", () => device.client.unsent() === 0);
    expect((await ben.messages(ana.person.id)).length).toBe(0);
    await until("nothing of Ana is left", () => device.disk.range(`${ana.person.id}/`, `${ana.person.id}/~`).length === 0 && !device.disk.holds("w-a-1"));
  });

  test("a member who is deactivated is signed out with that reason", async () => {
    const [ana, admin] = [await world.member("Ana"), await world.member("Admin")];
    world.server.admin("promote", "--email", admin.person.email);
    const { device } = await world.signedIn(ana, "a");
    await admin.ask("PUT", `/api/admin/members/${ana.person.id}/active`, { is_active: false });
    await until("it is signed out", () => device.client.session.getSnapshot().status === "signed_out");
    expect(device.client.session.getSnapshot()).toMatchObject({ reason: "deactivated" });
  });

  test("another JWT_SECRET (every token and cursor is void): signed in again by the refresh token, and everything is shown as it is", async () => {
    const [ana, ben] = [await world.member("Ana"), await world.member("Ben")];
    const a = await world.signedIn(ana, "a");
    const chat = talk(a, ben);
    for (let n = 0; n < 70; n += 1) await a.send(chat, ben.person.id, `w-a-${n}`);
    await world.settled();
    await world.server.restart({ JWT_SECRET: "another secret of the tests of the client package" });
    a.device.client.wake();
    await a.device.online();
    const log = await ana.messages(ben.person.id);
    await shows(chat, "everything is there", ({ messages }) => messages.at(-1)?.seq === 70);
    while (chat.messages.getSnapshot().hasOlder) await chat.loadOlder();
    expect(chat.messages.getSnapshot().messages.map(({ seq, content }) => [seq, content])).toEqual(log.map(({ seq, content }) => [seq, content]));
  });
});
