import type { Clock } from "./environment.js";
import { given } from "./json.js";
import type { RangeOptions, Storage } from "./storage.js";

/** Between two attempts to store what could not be stored, in milliseconds. */
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;

/** What is written, and read back. */
export type Pages = Pick<Journal, "put" | "clear" | "stored" | "attempted" | "range">;

interface Pending {
  clear: (readonly [from: string, to: string])[];
  put: Map<string, string | null>;
  /** Told when it is stored. */
  waiting: (() => void)[];
  /** Told when it is, or could not be. */
  attempts: (() => void)[];
}

function nothing(): Pending {
  return { clear: [], put: new Map(), waiting: [], attempts: [] };
}

/**
 * Writes behind the state in memory. What is changed in one turn is stored together, and while that is written the next changes gather: so a cursor is never stored
 * without what came before it. What cannot be stored (no room) is kept in memory and tried again: as much as comes meanwhile.
 */
export class Journal implements Pages {
  private pending = nothing();
  /** What is being written. */
  private writing: Pending | undefined;
  private scheduled = false;
  private closed = false;
  private suspended: (() => Promise<void>) | undefined;
  private readable: RegExp | undefined;
  private failures = 0;
  private timer: unknown;

  constructor(
    private readonly storage: Storage,
    private readonly clock: Clock,
    /** Told when writing begins to fail, and when it succeeds again. */
    private readonly onFailing: (failing: boolean, error?: unknown) => void,
  ) {}

  /**
   * The storage is in a form that is not understood: nothing is read of it but what begins like `readable`, and nothing written, before `ready` has succeeded; it is
   * tried again as a write is.
   */
  suspend(readable: RegExp, ready: () => Promise<void>): void {
    this.readable = readable;
    this.suspended = ready;
  }

  put(key: string, value: string | null): void {
    this.pending.put.set(key, value);
    this.schedule();
  }

  /** Removes everything from `from` up to, and without, `to`. */
  clear(from: string, to: string): void {
    for (const key of this.pending.put.keys()) if (key >= from && key < to) this.pending.put.delete(key);
    this.pending.clear.push([from, to]);
    this.schedule();
  }

  /** Resolves when everything that was put before is stored. Never rejects: it is tried until it is, or until the client is closed. */
  stored(): Promise<void> {
    const last = this.last;
    return last ? new Promise((resolve) => last.waiting.push(resolve)) : Promise.resolve();
  }

  /** Resolves when that is stored, or cannot be stored at the moment. */
  attempted(): Promise<void> {
    const last = this.last;
    if (!last || this.failures > 0 || this.closed) return Promise.resolve();
    return new Promise((resolve) => last.attempts.push(resolve));
  }

  /** What was tried last could not be stored. */
  get failing(): boolean {
    return this.failures > 0;
  }

  /** The newest changes that are not stored. */
  private get last(): Pending | undefined {
    const { put, clear } = this.pending;
    return put.size > 0 || clear.length > 0 ? this.pending : this.writing;
  }

  /** As `Storage.range`, with what is not stored yet. */
  async range(from: string, to: string, options: RangeOptions = {}): Promise<[string, string][]> {
    const layers = [this.writing, this.pending].filter((layer) => layer !== undefined);
    const { put, clear } = overlay(layers, from, to);
    // What was cleared is still in the storage, and takes no room in the answer.
    const limit = options.limit === undefined || clear.length > 0 ? undefined : options.limit + put.size;
    const hidden = this.suspended !== undefined && !this.readable?.test(from);
    const stored = hidden || clear.some(([first, end]) => first <= from && end >= to)
      ? []
      : await this.storage.range(from, to, given({ reverse: options.reverse, limit }));
    const merged = new Map(stored.filter(([key]) => !clear.some(([first, end]) => key >= first && key < end)));
    for (const [key, value] of put) {
      if (value === null) merged.delete(key);
      else merged.set(key, value);
    }
    const sorted = [...merged].sort(([a], [b]) => (a < b ? -1 : 1));
    if (options.reverse) sorted.reverse();
    return sorted.slice(0, options.limit);
  }

  /** Writes what is left, once, and ends. */
  async close(): Promise<void> {
    this.clock.clearTimeout(this.timer);
    if (this.writing) await new Promise<void>((resolve) => this.writing?.attempts.push(resolve));
    this.clock.clearTimeout(this.timer);
    await this.write();
    this.closed = true;
    this.clock.clearTimeout(this.timer);
  }

  private schedule(): void {
    if (this.scheduled || this.writing || this.closed || this.timer !== undefined) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      if (!this.writing) void this.write();
    });
  }

  private async write(): Promise<void> {
    this.timer = undefined;
    if (this.closed || this.writing || (this.pending.put.size === 0 && this.pending.clear.length === 0)) return;
    const batch = this.pending;
    this.writing = batch;
    this.pending = nothing();
    try {
      await this.suspended?.();
      this.suspended = undefined;
      await this.storage.write(batch);
      this.writing = undefined;
      if (this.failures > 0) this.onFailing(false);
      this.failures = 0;
      for (const resolve of batch.waiting) resolve();
      this.schedule();
    } catch (error) {
      this.writing = undefined;
      this.pending = together(batch, this.pending);
      if (this.failures === 0) this.onFailing(true, error);
      const wait = Math.min(RETRY_FIRST_MS * 2 ** this.failures, RETRY_MAX_MS);
      this.failures += 1;
      if (!this.closed) this.timer = this.clock.setTimeout(() => void this.write(), wait);
    }
    for (const resolve of batch.attempts.splice(0)) resolve();
  }
}

/** The journal of one sign-in: when that has ended nothing is written any more, whoever still holds something of it. */
export class OwnPages implements Pages {
  private ended = false;

  constructor(private readonly journal: Pages) {}

  put(key: string, value: string | null): void {
    if (!this.ended) this.journal.put(key, value);
  }

  clear(from: string, to: string): void {
    if (!this.ended) this.journal.clear(from, to);
  }

  stored(): Promise<void> {
    return this.journal.stored();
  }

  attempted(): Promise<void> {
    return this.journal.attempted();
  }

  range(from: string, to: string, options?: RangeOptions): Promise<[string, string][]> {
    return this.journal.range(from, to, options);
  }

  end(): void {
    this.ended = true;
  }
}

/** What two batches, one after the other, change together. */
function together(first: Pending, second: Pending): Pending {
  const put = new Map([...first.put].filter(([key]) => !second.clear.some(([from, to]) => key >= from && key < to)));
  for (const [key, value] of second.put) put.set(key, value);
  const clear = first.clear.filter(([from, to]) => !second.clear.some(([first, end]) => first <= from && end >= to));
  return { clear: [...clear, ...second.clear], put, waiting: [...first.waiting, ...second.waiting], attempts: [...first.attempts, ...second.attempts] };
}

/** What batches that are not stored change between two keys. */
function overlay(layers: Pending[], from: string, to: string): Pick<Pending, "put" | "clear"> {
  const all = layers.reduce(together, nothing());
  return { clear: all.clear.filter(([first, end]) => first < to && end > from), put: new Map([...all.put].filter(([key]) => key >= from && key < to)) };
}
