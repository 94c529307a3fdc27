import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { MemberId } from "../src/protocol.js";
import { createWebClient } from "../src/web.js";
import type { WebClient } from "../src/web.js";
import { LockServer } from "./web.locks.js";

const [ANA, BEN] = ["a".repeat(24), "b".repeat(24)] as [MemberId, MemberId];
const ANAS = { email: "ana@example.com", password: "correct horse" };

let browser: { indexedDB: IDBFactory; locks: LockServer };
const debug: string[] = [];
/** The server says who somebody is; else nothing is reached but log-ins. */
let knows = false;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  browser = { indexedDB: new IDBFactory(), locks: new LockServer() };
  vi.stubGlobal("IDBKeyRange", IDBKeyRange);
  debug.length = 0;
  knows = false;
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** Lets time go by, with a database that has its own. */
async function pass(ms: number): Promise<void> {
  for (let gone = 0; gone < ms; gone += 250) {
    await vi.advanceTimersByTimeAsync(250);
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** What it gives, however long that takes. */
async function given<T>(work: Promise<T>): Promise<T> {
  let done = false;
  work.catch(() => undefined).finally(() => (done = true));
  while (!done) await pass(250);
  return work;
}

/** A tab. */
async function open(indexedDB: IDBFactory | undefined = browser.indexedDB): Promise<WebClient> {
  vi.stubGlobal("window", Object.assign(new EventTarget(), { indexedDB }));
  vi.stubGlobal("document", Object.assign(new EventTarget(), { visibilityState: "visible" }));
  vi.stubGlobal("navigator", { locks: browser.locks.tab({}) });
  const member = { _id: ANA, name: "Ana", email: ANAS.email, tier: "gold", contact_info: {}, visibility: {} };
  const client = await given(createWebClient({
    url: "http://club.test",
    debug: ({ what }) => debug.push(what),
    environment: {
      socket: () => ({ send: () => undefined, close: () => undefined, onopen: null, onmessage: null, onclose: null, onerror: null }),
      fetch: async (input) => {
        if (knows && String(input).endsWith("/me")) return Response.json(member);
        if (!String(input).endsWith("/login")) throw new Error("there is no network");
        return Response.json({ member, access_token: "access", refresh_token: "refresh", expires_at: new Date(Date.now() + 3_600_000).toISOString() });
      },
    },
  }));
  await given(client.start());
  return client;
}

/** The browser of Ana, who has written a message that was not sent. */
async function used(): Promise<void> {
  const client = await open();
  await given(client.login(ANAS));
  await given(client.conversation({ member: BEN }).send("w-kept"));
  await given(client.stop());
}

/** It answers nothing before it is told to; what was asked until then is never answered. */
function silent(): { factory: IDBFactory; answers(): void } {
  let answering = false;
  const open = (name: string, version?: number) => (answering ? browser.indexedDB.open(name, version) : {});
  return { factory: { open } as unknown as IDBFactory, answers: () => (answering = true) };
}

const seen = (client: WebClient) => ({ status: client.session.getSnapshot().status, unsent: client.unsent(), failing: client.connection.getSnapshot().storageFailing });

test("a database that did not open the first time is the one of the tab all the same", async () => {
  await used();
  const { factory, answers } = silent();
  setTimeout(answers, 10_000);
  const client = await open(factory);
  expect([seen(client), client.slot]).toEqual([{ status: "signed_in", unsent: 1, failing: false }, "0"]);
  await given(client.conversation({ member: BEN }).send("w-next"));
  await given(client.stop());
  const next = await open();
  expect(seen(next)).toEqual({ status: "signed_in", unsent: 2, failing: false });
  await given(next.stop());
});

test("as long as it does not open it is not known what is there, and nothing is kept anywhere else", async () => {
  await used();
  const { factory, answers } = silent();
  const client = await open(factory);
  expect(seen(client)).toEqual({ status: "signed_out", unsent: undefined, failing: true });
  await expect(given(client.login(ANAS))).rejects.toMatchObject({ code: "storage" });
  answers();
  await pass(60_000);
  expect(seen(client)).toEqual({ status: "signed_in", unsent: 1, failing: false });
  // Another tab knows of the store, and takes over what is in it.
  await given(client.conversation({ member: BEN }).send("w-next"));
  await given(client.stop());
  const holder = browser.locks.tab({});
  void holder.request("members-book:club.test:slot-0", {}, () => new Promise((resolve) => setTimeout(resolve, 5_000)));
  knows = true;
  const other = await open();
  expect(other.slot).toBe("1");
  await pass(60_000);
  expect(seen(other)).toEqual({ status: "signed_in", unsent: 2, failing: false });
  await given(other.stop());
});

test("where there is only memory it says so", async () => {
  const broken = { open: () => { throw new DOMException("no", "SecurityError"); } } as unknown as IDBFactory;
  for (const factory of [{} as IDBFactory, broken]) {
    const client = await open(factory);
    expect([seen(client), client.slot, debug]).toEqual([{ status: "signed_out", unsent: undefined, failing: true }, undefined, expect.arrayContaining(["tab: storage in memory"])]);
    await given(client.login(ANAS));
    await given(client.conversation({ member: BEN }).send("w-lost"));
    expect(seen(client)).toEqual({ status: "signed_in", unsent: undefined, failing: true });
    await given(client.stop());
  }
});
