import { Client } from "./client.js";
import { addressOf, platformEnvironment } from "./environment.js";
import type { ClientOptions } from "./types.js";
import { platformHost } from "./web/host.js";
import { openTab } from "./web/tab.js";

export { deleteDatabase, IndexedDbStorage } from "./storage/indexeddb.js";
export type { DatabaseFactory, IndexedDbOptions } from "./storage/indexeddb.js";

/** What a client in a browser is made of. */
export interface WebClientOptions extends Omit<ClientOptions, "storage" | "vault" | "platform"> {
  /** Clients of the same name share the session, and take over what others have not sent. The host of the server, if not given. */
  readonly name?: string;
}

/** The client of one tab. */
export class WebClient extends Client {
  /** Where it keeps what it has. Nothing if the browser keeps nothing: unsent messages end with the tab. */
  readonly slot: string | undefined;

  constructor(options: ClientOptions, slot: string | undefined) {
    super(options);
    this.slot = slot;
  }
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
