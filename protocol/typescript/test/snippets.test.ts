import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test, vi } from "vitest";

vi.setConfig({ testTimeout: 60_000 });

const root = fileURLToPath(new URL("..", import.meta.url));
const tsc = join(root, "node_modules/.bin/tsc");
let folder = "";

beforeAll(() => {
  mkdirSync(join(root, "node_modules"), { recursive: true });
  // Below `node_modules`, so that `react` and `ws` are found; the client is found as it is packed.
  folder = mkdtempSync(join(root, "node_modules/.snippets-"));
  const packed = join(folder, "node_modules/@members-book/client");
  mkdirSync(packed, { recursive: true });
  writeFileSync(join(packed, "package.json"), readFileSync(join(root, "package.json")));
  const built = spawnSync(tsc, ["-p", "tsconfig.build.json", "--outDir", join(packed, "dist")], { cwd: root, encoding: "utf8" });
  expect(built.stdout + built.stderr).toBe("");
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The code of a page that is TypeScript, by the name of its file. */
function snippets(page: string): Map<string, string> {
  const found = new Map<string, string>();
  const text = readFileSync(join(root, page), "utf8");
  for (const [, named, kind, code = ""] of text.matchAll(/(?:<!-- quickstart: (\S+) -->\n)?```(tsx?)\n([\s\S]*?)```/g)) {
    const name = named ?? /^\/\/ ([\w.-]+\.tsx?)/.exec(code)?.[1] ?? `snippet-${found.size}.${kind}`;
    expect(found.has(name), `${page} has ${name} twice`).toBe(false);
    found.set(name, code);
  }
  expect(found.size).toBeGreaterThan(1);
  return found;
}

/** Compiles files in a folder of their own. Returns what the compiler says. */
function compile(name: string, files: ReadonlyMap<string, string>, options: Record<string, unknown>): string {
  const here = join(folder, name);
  mkdirSync(here);
  for (const [file, code] of files) writeFileSync(join(here, file), code);
  writeFileSync(join(here, "package.json"), JSON.stringify({ type: "module" }));
  const compilerOptions = { target: "es2022", strict: true, noEmit: true, isolatedModules: true, ...options };
  writeFileSync(join(here, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["."] }));
  const { stdout, stderr } = spawnSync(tsc, ["-p", here], { cwd: here, encoding: "utf8" });
  return stdout + stderr;
}

/** The parts of what Expo has that the pages use, as its packages declare them. */
const EXPO = `
declare module "expo-sqlite" {
  export interface SQLiteDatabase {
    execAsync(source: string): Promise<void>;
    runAsync(source: string, params: (string | number | null)[]): Promise<{ lastInsertRowId: number; changes: number }>;
    getAllAsync<T>(source: string, params: (string | number | null)[]): Promise<T[]>;
    getFirstAsync<T>(source: string, params: (string | number | null)[]): Promise<T | null>;
    withExclusiveTransactionAsync(task: (txn: SQLiteDatabase) => Promise<void>): Promise<void>;
    withTransactionAsync(task: () => Promise<void>): Promise<void>;
    closeAsync(): Promise<void>;
  }
  export function openDatabaseAsync(name: string): Promise<SQLiteDatabase>;
}
declare module "expo-secure-store" {
  export type SecureStoreOptions = { keychainService?: string; keychainAccessible?: number };
  export const AFTER_FIRST_UNLOCK_THIS_DEVICE_ONLY: number;
  export function getItemAsync(key: string, options?: SecureStoreOptions): Promise<string | null>;
  export function setItemAsync(key: string, value: string, options?: SecureStoreOptions): Promise<void>;
  export function deleteItemAsync(key: string, options?: SecureStoreOptions): Promise<void>;
}
declare module "@react-native-community/netinfo" {
  export type NetInfoState = { type: "none"; isConnected: false; details: null } | { type: "wifi"; isConnected: true; details: { ipAddress: string | null } };
  const NetInfo: { addEventListener(listener: (state: NetInfoState) => void): () => void };
  export default NetInfo;
}
declare module "expo-notifications" {
  export interface Notification { date: number; request: { identifier: string; content: { title: string | null; data?: Record<string, unknown> }; trigger: unknown } }
  export interface NotificationResponse { notification: Notification; actionIdentifier: string }
  export interface NotificationPermissionsStatus { granted: boolean; canAskAgain: boolean; ios?: { status: number } }
  interface Following { remove(): void }
  export enum AndroidImportance { DEFAULT = 5, HIGH = 6 }
  export function getPermissionsAsync(): Promise<NotificationPermissionsStatus>;
  export function requestPermissionsAsync(permissions?: object): Promise<NotificationPermissionsStatus>;
  export function getExpoPushTokenAsync(options?: { projectId?: string }): Promise<{ type: "expo"; data: string }>;
  export function addPushTokenListener(listener: (token: { type: string; data: string }) => void): Following;
  export function unregisterForNotificationsAsync(): Promise<void>;
  export function setNotificationChannelAsync(id: string, channel: { name: string | null; importance: AndroidImportance }): Promise<object | null>;
  export function setNotificationHandler(handler: { handleNotification: (notification: Notification) => Promise<{ shouldShowBanner: boolean; shouldShowList: boolean; shouldPlaySound: boolean; shouldSetBadge: boolean }> } | null): void;
  export function addNotificationReceivedListener(listener: (event: Notification) => void): Following;
  export function addNotificationResponseReceivedListener(listener: (event: NotificationResponse) => void): Following;
  export function getLastNotificationResponse(): NotificationResponse | null;
  export function clearLastNotificationResponse(): void;
  export function getPresentedNotificationsAsync(): Promise<Notification[]>;
  export function dismissNotificationAsync(identifier: string): Promise<void>;
  export function setBadgeCountAsync(count: number, options?: object): Promise<boolean>;
}
declare module "expo-device" {
  export const isDevice: boolean;
}
declare module "expo-constants" {
  const Constants: { expoConfig: { extra?: Record<string, any> } | null };
  export default Constants;
}
declare module "expo-sqlite/kv-store" {
  const Storage: { getItemSync(key: string): string | null; setItemSync(key: string, value: string): void; removeItemSync(key: string): boolean };
  export default Storage;
}
declare module "react-native" {
  import type { ComponentType, ReactElement, ReactNode } from "react";
  export const AppState: { currentState: "active" | "background" | "inactive"; addEventListener(type: "change", listener: (state: "active" | "background" | "inactive") => void): { remove(): void } };
  export const Platform: { OS: "ios" | "android" | "web" | "windows" | "macos" };
  export const SafeAreaView: ComponentType<{ style?: object; children?: ReactNode }>;
  export const Text: ComponentType<{ style?: object; children?: ReactNode }>;
  export const StyleSheet: { create<T extends object>(styles: T): T };
  export const TextInput: ComponentType<{
    style?: object; placeholder?: string; value?: string; onChangeText?: (text: string) => void; onSubmitEditing?: () => void; submitBehavior?: "submit" | "blurAndSubmit" | "newline"; blurOnSubmit?: boolean;
  }>;
  export const Button: ComponentType<{ title: string; disabled?: boolean; onPress: () => void }>;
  export function FlatList<T>(props: {
    data: readonly T[]; extraData?: unknown; keyExtractor: (item: T) => string; renderItem: (info: { item: T }) => ReactElement; inverted?: boolean; onEndReached?: () => void;
  }): ReactElement;
}
`;

test.each(["README.md", "../../docs/expo.md"])("the code of %s compiles", (page) => {
  const files = snippets(page).set("expo.d.ts", EXPO);
  const options = { module: "esnext", moduleResolution: "bundler", jsx: "react-jsx", lib: ["es2023", "dom"], types: ["node"], skipLibCheck: true };
  expect(compile(page.replace(/\W/g, "-"), files, options)).toBe("");
});

test("nobody needs the types of the DOM, and a WebSocket of `ws` is a socket as it is", () => {
  const code = `
    import { WebSocket } from "ws";
    import { Client, MemoryStorage, MemoryVault } from "@members-book/client";
    import type { Socket } from "@members-book/client";
    import { CloseCode, CONTENT_MAX_CHARS, ERROR_RETRY, REPLY_TYPE } from "@members-book/client/protocol";
    import { deleteDatabase, IndexedDbStorage } from "@members-book/client/storage/indexeddb";
    import { ExpoPush, WebPush } from "@members-book/client/push";
    const factory = { open: () => ({}), deleteDatabase: () => ({}) };
    export const storage = new IndexedDbStorage("name", { factory });
    export const gone = deleteDatabase("name", factory);
    const socket = (url: string, protocol: string): Socket => new WebSocket(url, protocol);
    export const client = new Client({ url: "https://club.example", storage: new MemoryStorage(), vault: new MemoryVault(), platform: "other", environment: { socket } });
    export const known = [CloseCode.Replaced, CONTENT_MAX_CHARS, ERROR_RETRY.rate_limited, REPLY_TYPE["message.send"]];
    export const pushes = [ExpoPush, WebPush];
  `;
  // What is declared is checked as well.
  const options = { module: "nodenext", moduleResolution: "nodenext", lib: ["es2023"], types: ["node"], skipLibCheck: false };
  expect(compile("node", new Map([["main.ts", code]]), options)).toBe("");
});

test("a WebSocket and an IDBFactory of the DOM are good as they are", () => {
  const code = `
    import type { Socket } from "@members-book/client";
    import { IndexedDbStorage } from "@members-book/client/storage/indexeddb";
    export const socket: Socket = new WebSocket("wss://club.example/ws");
    export const storage = new IndexedDbStorage("name", { factory: indexedDB });
  `;
  expect(compile("dom", new Map([["main.ts", code]]), { module: "esnext", moduleResolution: "bundler", lib: ["es2023", "dom"], types: [] })).toBe("");
});

test("what is packed leads nowhere that is not packed", () => {
  for (const page of ["README.md", "llms.txt", "CHANGELOG.md"]) {
    const links = [...readFileSync(join(root, page), "utf8").matchAll(/\]\(([^)]+)\)/g)].map(([, link = ""]) => link);
    expect(links.filter((link) => !/^(https:|#)/.test(link) && !["README.md", "llms.txt", "CHANGELOG.md"].includes(link)), page).toEqual([]);
  }
});
