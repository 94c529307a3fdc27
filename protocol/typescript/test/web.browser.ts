import { setMaxListeners } from "node:events";

import { IDBFactory } from "fake-indexeddb";

import type { Clock } from "../src/environment.js";
import type { DeviceStatus } from "../src/protocol.js";
import type { Storage } from "../src/storage.js";
import type { SessionState } from "../src/types.js";
import { Value } from "../src/value.js";
import type { Channel, TabClient, WebHost } from "../src/web/host.js";
import { openTab } from "../src/web/tab.js";
import type { Tab } from "../src/web/tab.js";
import { LockServer } from "./web.locks.js";

// A tab waits for up to 31 others with one signal; Node takes that for a leak.
setMaxListeners(100);

/** A clock that is faster than that of the world, and can be put on: a computer that sleeps. */
export class FastClock implements Clock {
  private slept = 0;
  private readonly began = performance.now();
  constructor(private readonly times = 100) {}
  now = () => 1_700_000_000_000 + this.monotonic();
  monotonic = () => (performance.now() - this.began) * this.times + this.slept;
  setTimeout = (call: () => void, ms: number) => setTimeout(call, ms / this.times);
  clearTimeout = (timer: unknown) => clearTimeout(timer as NodeJS.Timeout);
  sleep(ms: number): void {
    this.slept += ms;
  }
}

/** What a tab does with its client, as far as it can be seen from outside. */
export class FakeClient implements TabClient {
  readonly session: Value<SessionState>;
  readonly calls: string[] = [];
  readonly adopted: string[] = [];
  /** What the next adoptions reject with. */
  failures = 0;
  /** The next adoption does not come to its end: there is no room. */
  stuck = false;

  constructor(private readonly own: Tab, member = "a".repeat(24)) {
    this.session = new Value<SessionState>({ status: "loading" });
    this.signIn(member);
  }

  signIn(member: string): void {
    this.session.set({ status: "signed_in", id: member, member: {} } as unknown as SessionState);
  }

  wake(): void {
    this.calls.push("wake");
  }

  setStatus(status: DeviceStatus): void {
    this.calls.push(status);
  }

  async checkSession(): Promise<void> {
    this.calls.push("check");
    if ((await this.own.vault.get()) === undefined) this.session.set({ status: "signed_out", reason: "logged_out" });
  }

  /** As the real one: kept here first, then removed there. */
  async adopt(storage: Storage): Promise<number> {
    const state = this.session.getSnapshot();
    if (state.status !== "signed_in") return 0;
    if (this.failures > 0) {
      this.failures--;
      throw new Error("no room");
    }
    if (this.stuck) {
      this.stuck = false;
      await new Promise(() => undefined);
    }
    const found = await storage.range(`${state.id}/o/`, `${state.id}/o/~`);
    this.adopted.push(...found.map(([, value]) => value));
    await this.own.storage.write({ put: new Map(found.map(([key, value]) => [`${key}/${value}`, value])) });
    await storage.write({ put: new Map(found.map(([key]) => [key, null])) });
    return found.length;
  }
}

/** A tab that is open. */
export interface OpenTab extends Tab {
  readonly client: FakeClient;
  readonly debug: string[];
  readonly document: EventTarget & { visibilityState: string };
  readonly window: EventTarget;
  readonly network: EventTarget;
  /** What a reload and the duplicate of the tab begin with. */
  readonly session: Map<string, string>;
  /** It is gone, without a word. */
  kill(): void;
}

/** A browser: what its tabs share. */
export class Browser {
  readonly indexedDB: IDBFactory | undefined = new IDBFactory();
  readonly locks = new LockServer();
  readonly clock: FastClock;
  private readonly channels = new Set<{ readonly name: string; readonly channel: Channel }>();

  constructor(private readonly has: { locks?: boolean; indexedDB?: boolean; times?: number } = {}) {
    this.clock = new FastClock(has.times);
    if (has.indexedDB === false) this.indexedDB = undefined;
  }

  async open(session = new Map<string, string>(), host: Partial<WebHost> = {}, make?: (tab: Tab, isDead: () => boolean) => TabClient): Promise<OpenTab> {
    const key = {};
    const debug: string[] = [];
    const own = new Set<{ readonly name: string; readonly channel: Channel }>();
    const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
    const [window, network] = [new EventTarget(), new EventTarget()];
    let dead = false;
    // What a tab that is gone would do later does not happen.
    const clock: Clock = { ...this.clock, monotonic: this.clock.monotonic, setTimeout: (call, ms) => this.clock.setTimeout(() => { if (!dead) call(); }, ms) };
    const full: WebHost = {
      indexedDB: this.indexedDB,
      locks: this.has.locks === false ? undefined : this.locks.tab(key),
      sessionStorage: { getItem: (name) => session.get(name) ?? null, setItem: (name, value) => void session.set(name, value), removeItem: (name) => void session.delete(name) },
      channel: (name) => this.channel(name, own),
      document,
      window,
      network,
      ...host,
    };
    const tab = await openTab("test", full, clock, Math.random, (what) => debug.push(what));
    const client = new FakeClient(tab);
    // Nothing of a tab that is gone happens any more.
    tab.attach(make ? make(tab, () => dead) : client);
    const kill = () => {
      dead = true;
      window.dispatchEvent(new Event("pagehide"));
      for (const each of own) this.channels.delete(each);
      this.locks.close(key);
    };
    return { ...tab, client, debug, document, window, network, session, kill };
  }

  private channel(name: string, own: Set<{ readonly name: string; readonly channel: Channel }>): Channel {
    const channel: Channel = {
      onmessage: null,
      postMessage: (message) => {
        for (const each of this.channels) {
          if (each.name === name && each.channel !== channel) setTimeout(() => each.channel.onmessage?.(new MessageEvent("message", { data: structuredClone(message) })));
        }
      },
      close: () => void this.channels.delete(entry),
    };
    const entry = { name, channel };
    this.channels.add(entry);
    own.add(entry);
    return channel;
  }
}

/** Waits until it holds. */
export async function until(holds: () => boolean | Promise<boolean>, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${holds}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}
