import type { Changes, Erasure, Storage, Vault } from "../../src/storage.js";
import type { Chance } from "./until.js";
import { pass } from "./until.js";

/** What becomes of the writes that were asked for and not answered when an app is killed. */
export type Pending = "lost" | "applied" | "some";

/** The words by which the tests recognise a message, wherever and however it is stored. */
const WORD = /\bw-[a-z0-9]+-\d+\b/g;

/** A promise that is never settled: what somebody waits for who does not exist any more. */
const never = new Promise<never>(() => undefined);

/** What a device keeps: it survives the app. Every change is made wholly or not at all, in the order of the calls. */
export class Disk {
  private readonly values = new Map<string, string>();
  private sorted: string[] = [];
  private readonly words = new Map<string, Set<string>>();
  /** Writes are refused: there is no room. */
  isFull = false;
  /** Reads of what begins like this fail. */
  unreadable: RegExp | undefined;
  /** How long a call takes, in milliseconds, at most; chance decides. */
  slowness = 0;
  /** How many writes were refused, for tests that want it to have happened. */
  refused = 0;
  vault: string | null = null;
  /** What has to go from it. */
  readonly erasing = new Set<Erasure>();
  /** Called after each change. */
  onChange: (() => void) | undefined;

  constructor(readonly chance: Chance) {}

  /** Whether a message with this word is stored. */
  holds(word: string): boolean {
    return (this.words.get(word)?.size ?? 0) > 0;
  }

  /** Whether one was ever stored: what is old may be removed, and comes from the server again. */
  held(word: string): boolean {
    return this.words.has(word);
  }

  get size(): number {
    return this.values.size;
  }

  get(key: string): string | undefined {
    return this.values.get(key);
  }

  range(from: string, to: string): [string, string][] {
    const keys = this.sorted.slice(this.place(from), this.place(to));
    return keys.map((key) => [key, this.values.get(key) ?? ""]);
  }

  apply(changes: Changes): void {
    for (const [from, to] of changes.clear ?? []) {
      for (const key of this.sorted.splice(this.place(from), Math.max(0, this.place(to) - this.place(from)))) this.forget(key);
    }
    for (const [key, value] of changes.put ?? []) {
      const had = this.values.has(key);
      if (had) this.forget(key);
      if (value === null) {
        if (had) this.sorted.splice(this.place(key), 1);
        continue;
      }
      if (!had) this.sorted.splice(this.place(key), 0, key);
      this.values.set(key, value);
      for (const word of value.match(WORD) ?? []) this.keysOf(word).add(key);
    }
    this.onChange?.();
  }

  /** The same data, on another device: a backup that was restored. */
  copyTo(other: Disk): void {
    other.apply({ clear: [["", "\uffff"]], put: new Map(this.values) });
    other.vault = this.vault;
  }

  private place(key: string): number {
    let low = 0;
    let high = this.sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.sorted[middle] ?? "") < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private forget(key: string): void {
    for (const word of this.values.get(key)?.match(WORD) ?? []) this.words.get(word)?.delete(key);
    this.values.delete(key);
  }

  private keysOf(word: string): Set<string> {
    let keys = this.words.get(word);
    if (!keys) this.words.set(word, (keys = new Set()));
    return keys;
  }
}

/** The storage of one life of the app, on a disk that has more of them. What it breaks of the contract is an error at once. */
export class DiskStorage implements Storage {
  private readonly waiting: (() => void)[] = [];
  private readonly writes = new Map<() => void, Changes>();
  private isBusy = false;
  private isDead = false;
  private state: "new" | "open" | "closed" = "new";
  /** What the client did that the contract does not allow. */
  readonly misuse: string[] = [];

  constructor(private readonly disk: Disk) {}

  /** How many writes are on their way. */
  get pending(): number {
    return this.writes.size;
  }

  open(): Promise<void> {
    if (this.state !== "new") this.misuse.push("open: it was opened before");
    this.state = "open";
    return this.turn(() => undefined);
  }

  get(key: string): Promise<string | undefined> {
    this.check("get", [key]);
    return this.turn(() => this.disk.get(key));
  }

  range(from: string, to: string): Promise<[key: string, value: string][]> {
    this.check("range", [from, to]);
    return this.turn(() => {
      if (this.disk.unreadable?.test(from)) throw new Error("This device cannot read at the moment.");
      return this.disk.range(from, to);
    });
  }

  write(changes: Changes): Promise<void> {
    this.check("write", [...(changes.put?.keys() ?? []), ...(changes.clear ?? []).flat()]);
    // As they are now: the caller may change its map afterwards.
    const copy: Changes = { clear: [...(changes.clear ?? [])], put: new Map(changes.put) };
    return this.turn(() => {
      if (this.disk.isFull) {
        this.disk.refused += 1;
        throw Object.assign(new Error("There is no room on this device."), { name: "QuotaExceededError" });
      }
      this.disk.apply(copy);
    }, copy);
  }

  close(): Promise<void> {
    this.check("close", []);
    return this.turn(() => undefined).then(() => {
      this.state = "closed";
    });
  }

  /** The app is killed. Nothing that it waits for ever comes. */
  kill(pending: Pending): void {
    if (this.isDead) return;
    this.isDead = true;
    const open = [...this.writes.values()];
    const kept = this.disk.isFull || pending === "lost" ? 0 : pending === "applied" ? open.length : this.disk.chance.between(0, open.length + 1);
    for (const changes of open.slice(0, kept)) this.disk.apply(changes);
    this.waiting.length = 0;
  }

  private check(call: string, keys: readonly string[]): void {
    if (this.isDead) return;
    if (this.state !== "open") this.misuse.push(`${call}: it is ${this.state}`);
    for (const key of keys) {
      if (key.length > 200 || !/^[\x00-\x7f]*$/.test(key)) this.misuse.push(`${call}: a key that is not allowed: ${JSON.stringify(key)}`);
    }
  }

  /** One after the other, in the order of the calls. */
  private turn<T>(work: () => T, changes?: Changes): Promise<T> {
    if (this.isDead) return never;
    return new Promise<T>((resolve, reject) => {
      const run = (): void => {
        if (this.isDead) return;
        this.writes.delete(run);
        try {
          resolve(work());
        } catch (cause) {
          reject(cause instanceof Error ? cause : new Error(String(cause)));
        }
      };
      if (changes) this.writes.set(run, changes);
      this.waiting.push(run);
      void this.work();
    });
  }

  private async work(): Promise<void> {
    if (this.isBusy) return;
    this.isBusy = true;
    for (;;) {
      const ms = this.disk.slowness * this.disk.chance.next();
      if (ms >= 1) await pass(ms);
      else await Promise.resolve();
      const run = this.waiting.shift();
      if (!run) break;
      run();
    }
    this.isBusy = false;
  }
}

/** The vault of one life of the app. */
export class DiskVault implements Vault {
  private isDead = false;
  private open: { value: string | null; erase: Erasure | undefined } | undefined;
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly disk: Disk) {}

  async get(): Promise<string | undefined> {
    await this.wait();
    return this.disk.vault ?? undefined;
  }

  async set(value: string | null, erase?: Erasure): Promise<void> {
    if (this.isDead) return never;
    if (value !== null && value.length > 2000) throw new Error("The vault takes 2,000 characters.");
    this.open = { value, erase };
    await this.wait();
    this.apply(this.open);
    this.open = undefined;
  }

  async erasing(): Promise<Erasure[]> {
    await this.wait();
    return [...this.disk.erasing];
  }

  async erased(gone: readonly Erasure[]): Promise<void> {
    await this.wait();
    for (const each of gone) this.disk.erasing.delete(each);
  }

  private apply({ value, erase }: { value: string | null; erase: Erasure | undefined }): void {
    this.disk.vault = value;
    if (erase !== undefined) this.disk.erasing.add(erase);
  }

  async exclusive<T>(work: () => Promise<T>): Promise<T> {
    const before = this.last;
    let release: () => void = () => undefined;
    this.last = new Promise<void>((resolve) => (release = resolve));
    await before;
    if (this.isDead) return never;
    try {
      return await work();
    } finally {
      release();
    }
  }

  kill(pending: Pending): void {
    if (this.isDead) return;
    this.isDead = true;
    if (this.open && pending !== "lost" && (pending === "applied" || this.disk.chance.likely(0.5))) this.apply(this.open);
  }

  private async wait(): Promise<void> {
    const ms = this.disk.slowness * this.disk.chance.next();
    if (ms >= 1) await pass(ms);
    else await Promise.resolve();
    if (this.isDead) await never;
  }
}
