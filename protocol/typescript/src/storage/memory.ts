import { copied } from "./changes.js";
import { Queue } from "./queue.js";
import type { Changes, Erasure, Storage, Vault } from "../storage.js";

/**
 * A storage that ends with the process: for tests, and where nothing else can be had. What was written is still there when the same object is opened again.
 */
export class MemoryStorage implements Storage {
  private readonly values = new Map<string, string>();
  /** The keys, ascending, as they were asked for; until the next write. */
  private sorted: string[] | undefined;

  async open(): Promise<void> {}

  async get(key: string): Promise<string | undefined> {
    return this.values.get(key);
  }

  async range(from: string, to: string): Promise<[string, string][]> {
    this.sorted ??= [...this.values.keys()].sort();
    return this.sorted.filter((key) => key >= from && key < to).map((key) => [key, this.values.get(key) ?? ""]);
  }

  async write(changes: Changes): Promise<void> {
    const { clear, put } = copied(changes);
    for (const [from, to] of clear) for (const key of this.values.keys()) if (key >= from && key < to) this.values.delete(key);
    for (const [key, value] of put) {
      if (value === null) this.values.delete(key);
      else this.values.set(key, value);
    }
    this.sorted = undefined;
  }

  async close(): Promise<void> {}
}

/** A vault that ends with the process. Several clients may share one object. */
export class MemoryVault implements Vault {
  private value: string | undefined;
  private readonly noted = new Set<Erasure>();
  private readonly turns = new Queue();

  async get(): Promise<string | undefined> {
    return this.value;
  }

  async set(value: string | null, erase?: Erasure): Promise<void> {
    this.value = value ?? undefined;
    if (erase !== undefined) this.noted.add(erase);
  }

  async erasing(): Promise<Erasure[]> {
    return [...this.noted];
  }

  async erased(gone: readonly Erasure[]): Promise<void> {
    for (const each of gone) this.noted.delete(each);
  }

  exclusive<T>(work: () => Promise<T>): Promise<T> {
    return this.turns.run(work);
  }
}
