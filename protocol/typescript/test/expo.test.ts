import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

import { createExpoClient, giveAppHints, SecureStoreVault } from "../src/expo.js";
import type { NetState } from "../src/expo.js";
import { FileDatabase } from "./storage.sqlite.js";

/** As the one of Expo: keys of few characters, values of 2,048 bytes. */
class FakeSecureStore {
  readonly AFTER_FIRST_UNLOCK_THIS_DEVICE_ONLY = 1;
  readonly items = new Map<string, string>();
  readonly options: unknown[] = [];
  async getItemAsync(key: string, options?: unknown): Promise<string | null> {
    this.check(key, options);
    return this.items.get(key) ?? null;
  }
  async setItemAsync(key: string, value: string, options?: unknown): Promise<void> {
    this.check(key, options);
    if (new TextEncoder().encode(value).length > 2048) throw new Error("too large");
    this.items.set(key, value);
  }
  async deleteItemAsync(key: string, options?: unknown): Promise<void> {
    this.check(key, options);
    this.items.delete(key);
  }
  private check(key: string, options: unknown): void {
    if (!/^[\w.-]+$/.test(key)) throw new Error(`invalid key: ${key}`);
    this.options.push(options);
  }
}

class FakeAppState {
  listeners = new Set<(state: string) => void>();
  constructor(public currentState = "active") {}
  addEventListener(_type: "change", listener: (state: string) => void) {
    this.listeners.add(listener);
    return { remove: () => void this.listeners.delete(listener) };
  }
  become(state: string): void {
    this.currentState = state;
    for (const listener of this.listeners) listener(state);
  }
}

class FakeNetInfo {
  listeners = new Set<(state: NetState) => void>();
  addEventListener(listener: (state: NetState) => void) {
    this.listeners.add(listener);
    listener({ type: "wifi", isConnected: true, details: { ipAddress: "10.0.0.1", strength: 50 } });
    return () => void this.listeners.delete(listener);
  }
  become(type: string, isConnected: boolean, details: unknown = null): void {
    for (const listener of this.listeners) listener({ type, isConnected, details });
  }
}

const hinted = () => {
  const calls: string[] = [];
  return { calls, wake: () => void calls.push("wake"), setStatus: (status: string) => void calls.push(status) };
};

it("keeps the tokens in the keychain, for this device only", async () => {
  const store = new FakeSecureStore();
  const vault = new SecureStoreVault(store, "club.example:8080");
  expect(await vault.get()).toBeUndefined();
  await vault.set("x".repeat(2048));
  expect(await vault.get()).toBe("x".repeat(2048));
  expect([...store.items.keys()]).toEqual(["members-book.club.example_8080"]);
  await expect(vault.set("x".repeat(2049))).rejects.toMatchObject({ code: "storage" });
  await expect(vault.set("ä".repeat(1025))).rejects.toMatchObject({ code: "storage" });
  await expect(vault.set("😀".repeat(513))).rejects.toMatchObject({ code: "storage" });
  await vault.set("😀".repeat(512));
  await vault.set(null);
  expect(await vault.get()).toBeUndefined();
  expect(new Set(store.options.map((options) => JSON.stringify(options)))).toEqual(new Set(['{"keychainAccessible":1}']));
});

it("notes what has to be erased in the same change as the tokens, and keeps it until it is done", async () => {
  const store = new FakeSecureStore();
  const vault = new SecureStoreVault(store, "club");
  await vault.set("tokens");
  let writes = 0;
  const set = store.setItemAsync.bind(store);
  store.setItemAsync = async (...args) => {
    writes += 1;
    await set(...args);
  };
  await vault.set(null, "a".repeat(24));
  expect(writes).toBe(1);
  expect([await vault.get(), await vault.erasing()]).toEqual([undefined, ["a".repeat(24)]]);
  await Promise.all([vault.set("others"), vault.erased(["b"]), vault.set("others", "b")]);
  expect([await new SecureStoreVault(store, "club").get(), await vault.erasing()]).toEqual(["others", ["a".repeat(24), "b"]]);
  await vault.erased(["a".repeat(24), "b"]);
  expect([await vault.get(), await vault.erasing(), store.items.get("members-book.club")]).toEqual(["others", [], "others"]);
  await vault.set(null);
  expect(store.items.size).toBe(0);
});

it("keeps one note for what has to go of a member, and can be written where it cannot be read", async () => {
  const store = new FakeSecureStore();
  const vault = new SecureStoreVault(store, "club");
  await vault.set(null, "a.1");
  await vault.set(null, "a-sent.2");
  await vault.set("tokens", "a.3");
  expect(await vault.erasing()).toEqual(["a-sent.2", "a.3"]);
  const get = store.getItemAsync.bind(store);
  store.getItemAsync = () => Promise.reject(new Error("Could not decrypt the value."));
  await vault.set("others");
  store.getItemAsync = get;
  expect(await vault.get()).toBe("others");
});

it("does one thing with the tokens at a time, and passes on what the keychain says", async () => {
  const store = new FakeSecureStore();
  const vault = new SecureStoreVault(store, "club");
  const add = () =>
    vault.exclusive(async () => {
      const value = Number((await vault.get()) ?? 0);
      await new Promise((done) => setTimeout(done, 2));
      await vault.set(String(value + 1));
    });
  await Promise.all([add(), add(), add()]);
  expect(await vault.get()).toBe("3");
  store.getItemAsync = () => Promise.reject(new Error("User interaction is not allowed."));
  await expect(vault.get()).rejects.toThrow("not allowed");
});

it("tells the client when the app comes and goes", () => {
  const [client, app] = [hinted(), new FakeAppState()];
  const end = giveAppHints(client, app);
  app.become("inactive");
  app.become("active");
  expect(client.calls.splice(0)).toEqual(["wake"]);
  app.become("inactive");
  app.become("background");
  expect(client.calls.splice(0)).toEqual(["away"]);
  app.become("inactive");
  app.become("active");
  expect(client.calls.splice(0)).toEqual(["online", "wake"]);
  end();
  app.become("background");
  expect(client.calls).toEqual([]);
  const woken = hinted();
  giveAppHints(woken, new FakeAppState("background"));
  expect(woken.calls).toEqual(["away"]);
});

it("tells the client when the network has changed, and only then", () => {
  const [client, app, net] = [hinted(), new FakeAppState(), new FakeNetInfo()];
  const end = giveAppHints(client, app, net);
  net.become("wifi", true, { ipAddress: "10.0.0.1", strength: 20 });
  expect(client.calls.splice(0)).toEqual([]);
  net.become("none", false);
  expect(client.calls.splice(0)).toEqual([]);
  net.become("cellular", true);
  expect(client.calls.splice(0)).toEqual(["wake"]);
  net.become("wifi", true, { ipAddress: "10.0.0.1" });
  net.become("wifi", true, { ipAddress: "10.0.0.2" });
  expect(client.calls.splice(0)).toEqual(["wake", "wake"]);
  app.become("background");
  net.become("cellular", true);
  expect(client.calls.splice(0)).toEqual(["away"]);
  end();
  expect(net.listeners.size).toBe(0);
});

it("makes a client of it that keeps its device, and lets go of everything when it stops", async () => {
  const folder = mkdtempSync(join(tmpdir(), "members-book-"));
  try {
    const devices: unknown[] = [];
    for (let run = 0; run < 2; run++) {
      const [app, net] = [new FakeAppState(), new FakeNetInfo()];
      let database: FileDatabase | undefined;
      const client = createExpoClient({
        url: "http://127.0.0.1:9",
        platform: "ios",
        sqlite: async () => (database = new FileDatabase(join(folder, "members-book.db"))),
        secureStore: new FakeSecureStore(),
        appState: app,
        netInfo: net,
      });
      await client.start();
      expect(client.session.getSnapshot()).toEqual({ status: "signed_out" });
      app.become("background");
      app.become("active");
      await client.stop();
      expect(database?.open).toBe(false);
      expect([app.listeners.size, net.listeners.size]).toEqual([0, 0]);
      const file = new FileDatabase(join(folder, "members-book.db"));
      devices.push(...(await file.getAllAsync("SELECT value FROM kv WHERE key = 'device'", [])));
      await file.closeAsync();
    }
    expect(devices.length).toBe(2);
    expect(devices[0]).toEqual(devices[1]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
