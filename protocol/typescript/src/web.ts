import { addressOf, platformEnvironment } from "./environment.js";
import type { ClientOptions } from "./types.js";
import { WebClient } from "./web/client.js";
import { platformHost } from "./web/host.js";
import { openTab } from "./web/tab.js";

export { WebClient } from "./web/client.js";
export { deleteDatabase, IndexedDbStorage } from "./storage/indexeddb.js";
export type { DatabaseFactory, IndexedDbOptions } from "./storage/indexeddb.js";

/** What a client in a browser is made of. */
export interface WebClientOptions extends Omit<ClientOptions, "storage" | "vault" | "platform"> {
  /** Clients of the same name share the session, and take over what others have not sent. The host of the server, if not given. */
  readonly name?: string;
}

/**
 * Makes the client of this tab; `start()` it. Tabs share the session: signing out of one signs out of all. Each tab is a device of its own, with a store of its own in IndexedDB
 * that the next tab takes up when it is closed; what it has not sent is taken over by a tab that lives.
 *
 * `stop()` it, or close the tab: two clients of one tab are two devices.
 */
export async function createWebClient(options: WebClientOptions): Promise<WebClient> {
  const { name = new URL(addressOf(options.url)).host, ...rest } = options;
  const environment = { ...platformEnvironment(), ...options.environment };
  const { clock, random } = environment;
  const tab = await openTab(name, platformHost(), clock, random, (what, details) => options.debug?.({ at: clock.now(), what, ...(details ? { details } : {}) }));
  const client = new WebClient({ ...rest, platform: "web", storage: tab.storage, vault: tab.vault }, tab.slot);
  tab.attach(client);
  return client;
}
