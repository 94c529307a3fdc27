import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { SecureStoreVault } from "../src/expo.js";
import { Keys } from "../src/records.js";
import { ANA, BEN, far, fate, pass, Phone, Stuck } from "./support/phone.js";

/** The deadline of an answer. */
const ANSWER_MS = 20_000;
const BENS = { email: "ben@example.com", password: "correct horse" };

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("a storage that does not answer", () => {
  test("a message is shown at once and waited for until the deadline; written late it is there once, with its key", async () => {
    const phone = new Phone();
    const client = await phone.signedIn();
    phone.storage.writes.on = true;
    const handle = client.conversation({ member: BEN });
    handle.messages.subscribe(() => undefined);
    const sending = handle.send("w-late");
    const sent = fate(sending);
    await pass(ANSWER_MS - 100);
    expect(sent.now).toBe("waits");
    await pass(200);
    expect(sent.now).toBe("done");
    expect(client.connection.getSnapshot().storageFailing).toBe(true);
    expect(client.unsent()).toBe(1);
    const key = await sending;
    // It is tried again, and does not pile up: nothing is asked of the storage before it has answered.
    await pass(120_000);
    expect(phone.storage.writes.held).toBe(1);
    // Those that come meanwhile are not waited for.
    const next = fate(handle.send("w-next"));
    await pass(0);
    expect(next.now).toBe("done");
    phone.storage.writes.release();
    await pass(31_000);
    expect(client.connection.getSnapshot().storageFailing).toBe(false);
    const stored = async () => (await phone.storage.range(...new Keys(ANA).outbox)).map(([, text]) => JSON.parse(text) as { id: string; content: string });
    expect((await stored()).map(({ content }) => content)).toEqual(["w-late", "w-next"]);
    expect((await stored())[0]?.id).toBe(key);
    await client.stop();
    const again = phone.client();
    await again.start();
    expect(again.unsent()).toBe(2);
    await again.stop();
  });

  test("what was taken back meanwhile does not come back with what is written late", async () => {
    const phone = new Phone();
    const client = await phone.signedIn();
    const handle = client.conversation({ member: BEN });
    phone.storage.writes.on = true;
    const sending = handle.send("w-late");
    await pass(ANSWER_MS);
    const dropped = fate(handle.drop(await sending));
    await pass(0);
    expect(dropped.now).toBe("done");
    phone.storage.writes.release();
    await pass(31_000);
    expect(await phone.storage.range(...new Keys(ANA).outbox)).toEqual([]);
    await client.stop();
  });

  test("a chat that cannot be read says so", async () => {
    const phone = new Phone();
    const entry = { kind: "message", id: "1", seq: 1, sender: BEN, client_id: "c", conversation: "c".repeat(24), content: "w-1", at: far() };
    const record = { id: entry.conversation, kind: "direct", members: [], lastSeq: 1, first: 1, to: 1, unread: 0, unreadMore: false, countedTo: 1, later: 0, readWanted: 0, recount: false, lastAt: 1, revision: 0 };
    const keys = new Keys(ANA);
    await phone.storage.write({ put: new Map([[keys.conversation(`m_${BEN}`), JSON.stringify(record)], [keys.entry(`m_${BEN}`, 1), JSON.stringify(entry)]]) });
    const client = await phone.signedIn();
    phone.storage.reads.on = true;
    const { messages } = client.conversation({ member: BEN });
    messages.subscribe(() => undefined);
    await pass(ANSWER_MS + 100);
    expect(messages.getSnapshot().problem?.code).toBe("storage");
    phone.storage.reads.release();
    await pass(5_000);
    expect(messages.getSnapshot().messages.map(({ content }) => content)).toEqual(["w-1"]);
    await client.stop();
  });

  test("how much is not sent is not known as long as it cannot be read, also when the session is over", async () => {
    const phone = new Phone();
    const { storage } = phone;
    const read = storage.range.bind(storage);
    await storage.write({ put: new Map([[new Keys(ANA).outgoing(1), JSON.stringify({ id: "1", conversation: `m_${BEN}`, content: "w-1", at: 1 })]]) });
    storage.range = (from, to) => (from.includes("/o/") ? Promise.reject(new Error("it cannot be read")) : read(from, to));
    const client = await phone.signedIn();
    expect([client.unsent(), client.connection.getSnapshot().storageFailing]).toEqual([undefined, true]);
    await client.conversation({ member: BEN }).send("w-2");
    expect(client.unsent()).toBeUndefined();
    storage.range = read;
    await pass(60_000);
    expect(client.unsent()).toBe(2);
    await client.stop();
    storage.range = (from, to) => (from.includes("/o/") ? Promise.reject(new Error("it cannot be read")) : read(from, to));
    const again = phone.client();
    await again.start();
    // In another tab: nothing says that there is nothing.
    await phone.vault.set(JSON.stringify({ over: "session_over" }));
    phone.refused = true;
    await pass(0);
    await again.api.json("/api/members/me").catch(() => undefined);
    expect([again.session.getSnapshot().status, again.unsent()]).toEqual(["signed_out", undefined]);
    await again.stop();
  });

  test("a start, and a stop, end", async () => {
    const phone = new Phone();
    phone.storage.reads.on = true;
    const client = phone.client();
    const started = fate(client.start());
    await pass(5 * ANSWER_MS);
    expect([started.now, client.connection.getSnapshot().storageFailing]).toEqual(["done", true]);
    phone.storage.reads.release();
    await pass(31_000);
    expect(client.connection.getSnapshot().storageFailing).toBe(false);
    phone.storage.writes.on = true;
    phone.storage.closing.on = true;
    const stopped = fate(client.stop());
    await pass(2 * ANSWER_MS + 100);
    expect(stopped.now).toBe("storage");
  });

  test("a log-out tells the server as soon as the vault has noted it, and ends", async () => {
    const phone = new Phone();
    const client = await phone.signedIn();
    phone.storage.writes.on = true;
    const out = fate(client.logout());
    await pass(100);
    expect(out.now).toBe("waits");
    expect(client.session.getSnapshot().status).toBe("signed_out");
    expect(phone.asked).toContain("/api/auth/logout Bearer access-a");
    await pass(ANSWER_MS);
    expect(out.now).toBe("done");
    // What has to go is noted, and goes when the storage answers.
    expect(await phone.vault.erasing()).toHaveLength(1);
    phone.storage.writes.release();
    await pass(31_000);
    expect(await phone.vault.erasing()).toEqual([]);
    expect(await phone.storage.range(...new Keys(ANA).all)).toEqual([]);
    await client.stop();
  });
});

test("a log-in does not wait anew for each thing that it reads of a storage that does not answer", async () => {
  const phone = new Phone();
  const client = phone.client();
  await client.start();
  phone.storage.reads.on = true;
  const login = fate(client.login(BENS));
  await pass(ANSWER_MS + 5_000);
  expect([login.now, client.connection.getSnapshot().storageFailing]).toEqual(["done", true]);
  phone.storage.reads.release();
  await pass(31_000);
  expect([client.session.getSnapshot().status, client.unsent(), client.connection.getSnapshot().storageFailing]).toEqual(["signed_in", 0, false]);
  await client.stop();
});

describe("a vault that does not answer", () => {
  test("a log-out rejects, and the session at the server ends all the same", async () => {
    const phone = new Phone();
    const client = await phone.signedIn();
    phone.vault.writes.on = true;
    const out = fate(client.logout());
    await pass(2 * ANSWER_MS);
    expect([out.now, client.session.getSnapshot().status]).toEqual(["storage", "signed_in"]);
    expect(phone.asked).toContain("/api/auth/logout Bearer access-a");
    await client.stop();
  });

  test("a log-in rejects, and what it keeps late takes the place of nothing", async () => {
    const phone = new Phone();
    const client = await phone.signedIn();
    await client.conversation({ member: BEN }).send("w-unsent");
    phone.vault.writes.on = true;
    const login = fate(client.login(BENS));
    await pass(2 * ANSWER_MS);
    expect([login.now, client.session.getSnapshot()]).toEqual(["storage", expect.objectContaining({ id: ANA })]);
    expect(phone.asked).toContain("/api/auth/logout Bearer access-b");
    phone.vault.writes.release();
    await pass(1_000);
    expect(await phone.vault.get()).toContain("refresh-a");
    await client.stop();
    const again = phone.client();
    await again.start();
    expect([again.session.getSnapshot(), again.unsent()]).toEqual([expect.objectContaining({ id: ANA }), 1]);
    await again.stop();
  });

  test("a log-in that finds a vault that cannot be read in time keeps nothing, not late either", async () => {
    const phone = new Phone();
    const stuck = new Stuck();
    const items = new Map<string, string>();
    const vault = () => new SecureStoreVault({
      getItemAsync: (key) => stuck.call(async () => items.get(key) ?? null),
      setItemAsync: (key, value) => stuck.call(async () => void items.set(key, value)),
      deleteItemAsync: (key) => stuck.call(async () => void items.delete(key)),
    }, "club");
    const client = await phone.signedIn(vault());
    await client.conversation({ member: BEN }).send("w-unsent");
    stuck.on = true;
    const login = fate(client.login(BENS));
    await pass(3 * ANSWER_MS);
    expect([login.now, client.session.getSnapshot()]).toEqual(["storage", expect.objectContaining({ id: ANA })]);
    stuck.release();
    await pass(60_000);
    expect([...items.values()].join()).toContain("refresh-a");
    await client.stop();
    const again = phone.client({ vault: vault() });
    await again.start();
    expect([again.session.getSnapshot(), again.unsent()]).toEqual([expect.objectContaining({ id: ANA }), 1]);
    await again.stop();
  });

  test("tokens that nobody has seen take nothing of another member, if their session is over: those of a log-in that were kept when the app had ended", async () => {
    const phone = new Phone();
    const client = await phone.signedIn();
    await client.conversation({ member: BEN }).send("w-unsent");
    await client.stop();
    await phone.vault.set(JSON.stringify({ member: BEN, access: "access-b", refresh: "refresh-b", expires: Date.now() + 3_600_000 }));
    phone.refused = true;
    const again = phone.client();
    await again.start();
    await pass(5_000);
    expect(again.session.getSnapshot()).toEqual({ status: "signed_out", reason: "session_over" });
    expect(await phone.storage.range(...new Keys(ANA).outbox)).toHaveLength(1);
    // Of a log-in that is kept everything of others goes.
    phone.refused = false;
    await again.login(BENS);
    await pass(100);
    expect(await phone.storage.range(...new Keys(ANA).all)).toEqual([]);
    await again.stop();
  });

  for (const what of ["logout", "login"] as const) {
    test(`a ${what} during a renewal waits for one deadline, and the server is told before`, async () => {
      const phone = new Phone();
      const client = await phone.signedIn();
      const ask = () => fate(what === "logout" ? client.logout() : client.login(BENS));
      phone.vault.reads.on = phone.vault.writes.on = phone.refused = true;
      const renewed = fate(client.api.json("/api/members/me"));
      await pass(10);
      phone.refused = false;
      const asked = ask();
      await pass(1_100);
      if (what === "logout") expect(phone.asked).toContain("/api/auth/logout Bearer access-a");
      await pass(ANSWER_MS);
      expect([asked.now, client.session.getSnapshot().status]).toEqual(["storage", "signed_in"]);
      if (what === "login") expect(phone.asked).toContain("/api/auth/logout Bearer access-b");
      // Its steps do not wait as long each, and what is late is not tried again.
      await pass(3_000);
      expect([renewed.now, phone.asked.filter((path) => path === "/api/auth/refresh").length]).toEqual(["network", 1]);
      phone.vault.reads.release();
      phone.vault.writes.release();
      await pass(1_000);
      const again = ask();
      await pass(1_000);
      expect(again.now).toBe("done");
      await client.stop();
    });

    test(`a ${what} does not wait for a lock that another tab never lets go of, and what it would have done there is not done later`, async () => {
      const phone = new Phone();
      const client = await phone.signedIn();
      let letGo = () => undefined as void;
      void phone.vault.exclusive(() => new Promise<void>((resolve) => (letGo = resolve)));
      const asked = fate(what === "logout" ? client.logout() : client.login(BENS));
      await pass(ANSWER_MS + 100);
      expect(asked.now).toBe("storage");
      expect(phone.asked).toContain(`/api/auth/logout Bearer access-${what === "logout" ? "a" : "b"}`);
      letGo();
      await pass(1_000);
      expect([client.session.getSnapshot(), await phone.vault.get()]).toEqual([expect.objectContaining({ id: ANA }), expect.stringContaining("refresh-a")]);
      await client.stop();
    });
  }

  test("a vault that answers again has its whole time again", async () => {
    const phone = new Phone();
    const client = await phone.signedIn();
    phone.vault.reads.on = true;
    const first = fate(client.login(BENS));
    await pass(2 * ANSWER_MS);
    expect(first.now).toBe("storage");
    phone.vault.reads.release();
    await pass(0);
    phone.vault.reads.on = true;
    const second = fate(client.login(BENS));
    await pass(ANSWER_MS / 2);
    phone.vault.reads.release();
    await pass(100);
    expect(second.now).toBe("done");
    await client.stop();
  });
});
