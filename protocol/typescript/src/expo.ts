import { Client } from "./client.js";
import { addressOf, platformEnvironment } from "./environment.js";
import { failed } from "./storage/changes.js";
import { closing } from "./storage/closing.js";
import { ExpoSqliteStorage } from "./storage/expo-sqlite.js";
import type { SqliteDatabase } from "./storage/expo-sqlite.js";
import { Queue } from "./storage/queue.js";
import type { DeviceStatus, Platform } from "./protocol.js";
import type { Erasure, Vault } from "./storage.js";
import type { ClientOptions } from "./types.js";

export { ExpoSqliteStorage } from "./storage/expo-sqlite.js";
export type { SqliteDatabase } from "./storage/expo-sqlite.js";

/** The part of `expo-secure-store` that is used: `import * as SecureStore from "expo-secure-store"`. */
export interface SecureStore {
  getItemAsync(key: string, options?: { keychainAccessible?: number }): Promise<string | null>;
  setItemAsync(key: string, value: string, options?: { keychainAccessible?: number }): Promise<void>;
  deleteItemAsync(key: string, options?: { keychainAccessible?: number }): Promise<void>;
  /** Of the module. */
  readonly AFTER_FIRST_UNLOCK_THIS_DEVICE_ONLY?: number;
}

/** The part of `AppState` of `react-native` that is used. */
export interface AppState {
  readonly currentState: string;
  addEventListener(type: "change", listener: (state: string) => void): { remove(): void };
}

/** The part of `@react-native-community/netinfo` that is used: its default export. */
export interface NetInfo {
  addEventListener(listener: (state: NetState) => void): () => void;
}

export interface NetState {
  readonly type: string;
  readonly isConnected: boolean | null;
  readonly details: unknown;
}

/** What a client in an app is made of. */
export interface ExpoClientOptions extends Omit<ClientOptions, "storage" | "vault" | "platform"> {
  /** `Platform.OS` of `react-native`. For `web` there is `createWebClient`. */
  readonly platform: Platform;
  /** A database for the client alone, or how it is opened: `() => SQLite.openDatabaseAsync("members-book.db")`. */
  readonly sqlite: SqliteDatabase | (() => SqliteDatabase | Promise<SqliteDatabase>);
  readonly secureStore: SecureStore;
  readonly appState: AppState;
  /** Without it a change of the network is noticed later. */
  readonly netInfo?: NetInfo;
  /** Clients of different names have different sessions. The host of the server, if not given. */
  readonly name?: string;
}

/** What the secure store takes of one value, in bytes. */
const MOST_BYTES = 2_048;

/** A vault in the keychain of the device. One client uses it. */
export class SecureStoreVault implements Vault {
  private readonly turns = new Queue();
  private readonly writes = new Queue();
  private readonly key: string;
  private readonly options: { keychainAccessible?: number };

  constructor(private readonly store: SecureStore, name: string) {
    // It takes no other characters.
    this.key = `members-book.${name.replace(/[^A-Za-z0-9._-]/g, "_")}`;
    // Readable when the app is woken behind a locked screen, and not taken along to another device: a token is good once.
    const keychainAccessible = store.AFTER_FIRST_UNLOCK_THIS_DEVICE_ONLY;
    this.options = keychainAccessible === undefined ? {} : { keychainAccessible };
  }

  async get(): Promise<string | undefined> {
    return (await this.read())[0] || undefined;
  }

  set(value: string | null, erase?: Erasure): Promise<void> {
    return this.writes.run(async () => {
      // What cannot be read for good must not keep everybody out.
      const [, ...noted] = await this.read().catch(() => []);
      const others = noted.filter((each) => erase === undefined || subject(each) !== subject(erase));
      await this.write([value ?? "", ...others, ...(erase === undefined ? [] : [erase])]);
    });
  }

  async erasing(): Promise<Erasure[]> {
    return (await this.read()).slice(1);
  }

  erased(gone: readonly Erasure[]): Promise<void> {
    return this.writes.run(async () => {
      await this.write((await this.read()).filter((line, index) => index === 0 || !gone.includes(line)));
    });
  }

  /** One value, so that it changes as one: in its first line what is kept, then what has to go. */
  private async read(): Promise<string[]> {
    return ((await this.store.getItemAsync(this.key, this.options)) ?? "").split("\n");
  }

  private write(lines: string[]): Promise<void> {
    const text = lines.join("\n");
    if (text === "") return this.store.deleteItemAsync(this.key, this.options);
    if (bytes(text) > MOST_BYTES) throw failed(`The secure store takes no more than ${MOST_BYTES} bytes.`);
    return this.store.setItemAsync(this.key, text, this.options);
  }

  exclusive<T>(work: () => Promise<T>): Promise<T> {
    return this.turns.run(work);
  }
}

/** What has to go by a note: a later one of the same takes the place of an earlier one. */
function subject(erasure: Erasure): string | undefined {
  return erasure.split(".")[0];
}

/** The length of a text in UTF-8. Not every React Native has a `TextEncoder`. */
function bytes(text: string): number {
  let count = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    count += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return count;
}

/** The part of the client that gets hints. */
interface Hinted {
  wake(): void;
  setStatus(status: DeviceStatus): void;
}

/** Tells the client when the app comes and goes, and when the network has changed. Returns what ends that. */
export function giveAppHints(client: Hinted, appState: AppState, netInfo?: NetInfo): () => void {
  let background = appState.currentState === "background";
  if (background) client.setStatus("away");
  // `inactive` is neither: a call comes in, or the member looks at their notifications.
  const app = appState.addEventListener("change", (state) => {
    if (state === "background") {
      background = true;
      client.setStatus("away");
    } else if (state === "active") {
      if (background) client.setStatus("online");
      background = false;
      client.wake();
    }
  });
  let before: string | undefined;
  const net = netInfo?.addEventListener(({ type, isConnected, details }) => {
    const address = (details as { ipAddress?: unknown } | null | undefined)?.ipAddress;
    const now = JSON.stringify([type, isConnected, address]);
    // It tells what is at first, and of every change of the strength of the signal.
    const changed = before !== undefined && before !== now;
    before = now;
    if (changed && isConnected !== false && !background) client.wake();
  });
  return () => {
    app.remove();
    net?.();
  };
}

/** Makes the client of an app on iOS or Android; `start()` it. Make one, outside of components. */
export function createExpoClient(options: ExpoClientOptions): Client {
  const { sqlite, secureStore, appState, netInfo, name = new URL(addressOf(options.url)).host, ...rest } = options;
  let end: (() => void) | undefined;
  const client = new Client({
    ...rest,
    environment: { ...platformEnvironment(), ...options.environment },
    storage: closing(new ExpoSqliteStorage(sqlite), () => end?.()),
    vault: new SecureStoreVault(secureStore, name),
  });
  end = giveAppHints(client, appState, netInfo);
  return client;
}
