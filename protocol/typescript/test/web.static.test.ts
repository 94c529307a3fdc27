import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

/** What Node 20 does not have, or not as a browser has it. */
const BROWSER = ["window", "document", "location", "navigator", "indexedDB", "WebSocket", "BroadcastChannel", "sessionStorage", "localStorage"];

beforeEach(() => {
  for (const name of BROWSER) vi.stubGlobal(name, undefined);
  vi.resetModules();
});
afterEach(() => void vi.unstubAllGlobals());

test("a page that is rendered without a browser can make the client when it is imported: it does nothing, and shows that it loads", async () => {
  const unhandled: unknown[] = [];
  const note = (error: unknown) => void unhandled.push(error);
  process.on("unhandledRejection", note);
  const timers = vi.spyOn(globalThis, "setTimeout");
  const fetched = vi.spyOn(globalThis, "fetch");
  const { createWebClient } = await import("../src/web.js");
  const { MembersBookProvider, useConversations, useMessages, usePresence, useSession } = await import("../src/react.js");
  // As apps do it: where the page comes from is not known here.
  const events: string[] = [];
  const client = await createWebClient({ debug: ({ what }) => events.push(what) });
  const other = "b".repeat(24);
  const Screen = () => {
    const { status } = useSession();
    const { conversations, ready } = useConversations();
    const { messages } = useMessages({ member: other });
    return createElement("p", null, [status, ready, conversations.length, messages.length, usePresence(other).status].join());
  };
  const html = renderToString(createElement(MembersBookProvider, { client }, createElement(Screen)));
  expect(html).toBe("<p>loading,false,0,0,unknown</p>");
  await client.start();
  client.wake();
  client.setStatus("away");
  expect([client.session.getSnapshot().status, client.connection.getSnapshot().status, client.slot, client.unsent()]).toEqual(["loading", "offline", undefined, 0]);
  await expect(client.login({ email: "ana@example.com", password: "correct horse" })).rejects.toMatchObject({ name: "MembersBookError" });
  await client.checkSession();
  await client.stop();
  await expect(client.start()).rejects.toMatchObject({ code: "stopped" });
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", note);
  expect(unhandled).toEqual([]);
  expect(fetched).not.toHaveBeenCalled();
  expect(events.filter((what) => what.startsWith("no browser"))).toHaveLength(1);
  expect(events[0]).toMatch(/^no browser/);
  // Nothing keeps the process running: the deadlines end with their answers.
  expect(timers.mock.calls.filter(([, ms]) => (ms ?? 0) > 0 && ms !== 20_000)).toEqual([]);
});

test("a debug callback that throws is ignored there as well", async () => {
  const { createWebClient } = await import("../src/web.js");
  const debug = () => {
    throw new Error("a log that fails");
  };
  expect((await createWebClient({ debug })).session.getSnapshot().status).toBe("loading");
});

test("an address that is none is refused there as well", async () => {
  const { createWebClient } = await import("../src/web.js");
  await expect(createWebClient({ url: "club" })).rejects.toMatchObject({ code: "validation_failed" });
});
