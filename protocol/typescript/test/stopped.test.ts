import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Keys, KEEP_UNSENT } from "../src/records.js";
import { MemoryStorage } from "../src/storage/memory.js";
import { ANA, BEN, fate, pass, Phone } from "./support/phone.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const BENS = { email: "ben@example.com", password: "correct horse" };
const ENDED = "/api/auth/logout Bearer access-b";

describe("a client that is stopped during a log-in", () => {
  test("before it is answered: the session ends at the server, and is not kept", async () => {
    const phone = new Phone();
    const client = phone.client();
    await client.start();
    phone.answers.on = true;
    const login = fate(client.login(BENS));
    await pass(0);
    // There is something to be erased, which is not done any more.
    await phone.vault.set(null, `${BEN}${KEEP_UNSENT}.1`);
    await client.stop();
    phone.answers.release();
    await pass(100);
    expect(login.now).toBe("stopped");
    expect(phone.asked).toContain(ENDED);
    expect(await phone.vault.get()).toBeUndefined();
    // Whoever shares the vault can use it.
    expect(await phone.vault.exclusive(async () => "free")).toBe("free");
  });

  test("while it is kept: it is that of the next start", async () => {
    const phone = new Phone();
    const client = phone.client();
    await client.start();
    phone.vault.writes.on = true;
    const login = fate(client.login(BENS));
    await pass(0);
    await client.stop();
    phone.vault.writes.release();
    await pass(100);
    expect(login.now).toBe("done");
    expect(phone.asked).not.toContain(ENDED);
    expect(await phone.vault.get()).toContain("refresh-b");
  });
});

test("what was read in a tab that was closed, and not said, is read in the tab that takes over what it has not sent", async () => {
  const keys = new Keys(ANA);
  const id = "c".repeat(24);
  const record = {
    id, kind: "direct", members: [ANA, BEN].map((member) => ({ member, delivered: 3, read: 0 })), lastSeq: 3, first: 1, to: 3, unread: 3, unreadMore: false, countedTo: 3, later: 0, readWanted: 0,
    recount: false, lastAt: 1, revision: 0,
  };
  const key = keys.conversation(`m_${BEN}`);
  const phone = new Phone();
  await phone.storage.write({ put: new Map([[key, JSON.stringify(record)]]) });
  const closed = new MemoryStorage();
  // There it had more than here.
  await closed.write({ put: new Map([[keys.reading(`m_${BEN}`), JSON.stringify({ conversation: `m_${BEN}`, read: 5 })]]) });
  const client = await phone.signedIn();
  expect(client.unread.getSnapshot().total).toBe(3);
  await client.adopt(closed);
  expect(client.unread.getSnapshot().total).toBe(0);
  expect(JSON.parse((await phone.storage.get(key)) ?? "")).toMatchObject({ readWanted: 5 });
  expect(await closed.range(...keys.outbox)).toEqual([]);
  await client.stop();
});
