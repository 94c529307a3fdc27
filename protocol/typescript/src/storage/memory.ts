import { copied } from "./changes.js";
import { Queue } from "./queue.js";
import type { Changes, Erasure, RangeOptions, Storage, Vault } from "../storage.js";

/**
 * A storage that ends with the process: for tests, and where nothing else can be had. What was written is still there when the same object is opened again.
 */
export class MemoryStorage implements Storage {
  private readonly values = new Map<string, string>();
  /** The keys, ascending. */
  private keys: string[] = [];

  async open(): Promise<void> {}

  async get(key: string): Promise<string | undefined> {
    return this.values.get(key);
  }

  async range(from: string, to: string, options: RangeOptions = {}): Promise<[string, string][]> {
    const [first, end] = this.between(from, to);
    const limit = Math.max(0, Math.min(options.limit ?? Infinity, end - first));
    const keys = options.reverse ? this.keys.slice(end - limit, end).reverse() : this.keys.slice(first, first + limit);
    return keys.map((key) => [key, this.values.get(key) ?? ""]);
  }

  async write(changes: Changes): Promise<void> {
    const { clear, put } = copied(changes);
    for (const [from, to] of clear) {
      const [first, end] = this.between(from, to);
      for (const key of this.keys.splice(first, end - first)) this.values.delete(key);
    }
    const added: string[] = [];
    for (const [key, value] of put) {
      if (value === null) {
        if (this.values.delete(key)) this.keys.splice(this.place(key), 1);
      } else {
        if (!this.values.has(key)) added.push(key);
        this.values.set(key, value);
      }
    }
    if (added.length > 100) this.keys = [...this.keys, ...added].sort(ascending);
    else for (const key of added) this.keys.splice(this.place(key), 0, key);
  }

  async close(): Promise<void> {}

  /** The places of the first key that is not below `from`, and of the first that is not below `to`. */
  private between(from: string, to: string): [number, number] {
    const first = this.place(from);
    return [first, Math.max(first, this.place(to))];
  }

  /** The place of the first key that is not below this one. */
  private place(key: string): number {
    let low = 0;
    let high = this.keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.keys[middle] ?? "") < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function ascending(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
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
