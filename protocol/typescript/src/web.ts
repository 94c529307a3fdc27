import { addressOf, platformEnvironment } from "./environment.js";
import { misuse } from "./errors.js";
import { MemoryStorage, MemoryVault } from "./storage/memory.js";
import type { ClientOptions } from "./types.js";
import { WebClient } from "./web/client.js";
import { platformHost } from "./web/host.js";
import { openTab } from "./web/tab.js";

export { WebClient } from "./web/client.js";
export { deleteDatabase, IndexedDbStorage } from "./storage/indexeddb.js";
export type { DatabaseFactory, IndexedDbOptions } from "./storage/indexeddb.js";

/** What a client in a browser is made of. */
export interface WebClientOptions extends Omit<ClientOptions, "storage" | "vault" | "platform" | "url"> {
  /** Where the server is: `https://club.example`. Where the page came from, if not given. */
  readonly url?: string;
  /** Clients of the same name share the session, and take over what others have not sent. The host of the server, if not given. */
  readonly name?: string;
}

/**
 * Makes the client of this tab; `start()` it. Tabs share the session: signing out of one signs out of all. Each tab is a device of its own, with a store of its own in IndexedDB
 * that the next tab takes up when it is closed; what it has not sent is taken over by a tab that lives.
 *
 * `stop()` it, or close the tab: two clients of one tab are two devices.
 *
 * Where there is no page, as when pages are rendered on a server or at a build, it is a client that does nothing: `session` stays `loading`, `start()` too does nothing, and what asks the server rejects.
 */
export async function createWebClient(options: WebClientOptions): Promise<WebClient> {
  const host = platformHost();
  if (!host.window) return idleClient(options);
  const { url = location.origin, name = new URL(addressOf(url)).host, ...rest } = options;
  const environment = { ...platformEnvironment(), ...options.environment };
  const { clock, random } = environment;
  const tab = await openTab(name, host, clock, random, (what, details) => options.debug?.({ at: clock.now(), what, ...(details ? { details } : {}) }));
  const client = new WebClient({ ...rest, url, platform: "web", storage: tab.storage, vault: tab.vault }, tab.slot, tab.slot === undefined && "memory");
  tab.attach(client);
  return client;
}

/** A client for who renders without a browser: the one of the browser takes its place there. */
function idleClient({ url = "http://localhost", ...options }: WebClientOptions): WebClient {
  const refuse = () => {
    throw misuse("There is no browser here.");
  };
  const environment = { ...options.environment, socket: refuse, fetch: async () => refuse() };
  return new WebClient({ ...options, url, environment, platform: "web", storage: new MemoryStorage(), vault: new MemoryVault() }, undefined, "idle");
}
