import { WebSocket } from "ws";

import { platformEnvironment } from "../../src/environment.js";
import type { Environment, Socket } from "../../src/environment.js";
import { MemoryStorage, MemoryVault } from "../../src/index.js";
import type { Client } from "../../src/index.js";
import type { Storage, Vault } from "../../src/storage.js";
import { WebClient } from "../../src/web/client.js";
import type { Server } from "./server.js";
import { until } from "./until.js";

/** What a client is made of, where a test has something of its own. */
export interface Parts {
  readonly storage?: Storage;
  readonly vault?: Vault;
  readonly fetch?: Environment["fetch"];
  readonly clock?: Environment["clock"];
  readonly socket?: Environment["socket"];
}

/** A client of a tab, directly at the server, with the sockets that it has opened. */
export interface Local {
  readonly client: WebClient;
  readonly sockets: Socket[];
}

const running: Client[] = [];

/** Makes one, and starts it. */
export async function local(server: Pick<Server, "url">, { storage = new MemoryStorage(), vault = new MemoryVault(), ...own }: Parts = {}): Promise<Local> {
  const sockets: Socket[] = [];
  const platform = platformEnvironment();
  const socket = (url: string, protocol: string): Socket => {
    const made: Socket = new WebSocket(url, protocol);
    sockets.push(made);
    return made;
  };
  const client = new WebClient({ url: server.url, platform: "other", storage, vault, environment: { ...platform, socket, ...own } });
  running.push(client);
  await client.start();
  return { client, sockets };
}

/** Stops all of them. */
export async function stopLocals(): Promise<void> {
  await Promise.all(running.splice(0).map((client) => client.stop()));
}

export async function online({ client }: Pick<Local, "client">): Promise<void> {
  await until("it is online", () => client.connection.getSnapshot().status === "online", {
    ms: 15_000,
    explain: () => [client.session.getSnapshot(), client.connection.getSnapshot()],
  });
}

/** One vault of several tabs, as each of them sees it: what has to go is noted for each. */
export class SharedVault {
  private readonly vault = new MemoryVault();
  private readonly views: MemoryVault[] = [];

  view(): Vault {
    const notes = new MemoryVault();
    this.views.push(notes);
    return {
      get: () => this.vault.get(),
      set: async (value, erase) => {
        await this.vault.set(value);
        if (erase !== undefined) for (const each of this.views) await each.set(null, erase);
      },
      erasing: () => notes.erasing(),
      erased: (gone) => notes.erased(gone),
      exclusive: (work) => this.vault.exclusive(work),
    };
  }
}
