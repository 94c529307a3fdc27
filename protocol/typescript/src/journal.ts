import { Timer } from "./environment.js";
import type { Clock } from "./environment.js";
import type { Storage } from "./storage.js";

/** Between two attempts to store what could not be stored, in milliseconds. */
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;

/** What is written, and read back. */
export type Pages = Pick<Journal, "put" | "clear" | "stored" | "attempted" | "range">;

type Range = readonly [from: string, to: string];

interface Pending {
  clear: Range[];
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
  private readonly timer: Timer;

  constructor(
    private readonly storage: Storage,
    clock: Clock,
    /** Told when writing begins to fail, and when it succeeds again. */
    private readonly onFailing: (failing: boolean, error?: unknown) => void,
  ) {
    this.timer = new Timer(clock);
  }

  /**
   * The storage fails: it is not open, or in a form that is not understood. Nothing is read of it but what begins like `readable`, and nothing written, before `ready` has
   * succeeded; it is tried again as a write is.
   */
  suspend(error: unknown, readable: RegExp, ready: () => Promise<void>): void {
    this.readable = readable;
    this.suspended = ready;
    this.failed(error);
  }

  /** Whether the storage has not opened yet. */
  get isSuspended(): boolean {
    return this.suspended !== undefined;
  }

  put(key: string, value: string | null): void {
    this.pending.put.set(key, value);
    this.schedule();
  }

  /** Removes everything from `from` up to, and without, `to`. */
  clear(from: string, to: string): void {
    for (const key of this.pending.put.keys()) if (lies(key, [from, to])) this.pending.put.delete(key);
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

  /** What was tried last could not be stored, or nothing is tried any more. */
  get failing(): boolean {
    return this.failures > 0 || this.closed;
  }

  /** The newest changes that are not stored. */
  private get last(): Pending | undefined {
    const { put, clear } = this.pending;
    return put.size > 0 || clear.length > 0 ? this.pending : this.writing;
  }

  /** As `Storage.range`, with what is not stored yet. */
  async range(from: string, to: string): Promise<[string, string][]> {
    // These may be stored before the storage has answered, and after it has looked.
    const before = [this.writing, this.pending];
    const merged = new Map(this.suspended && !this.readable?.test(from) ? [] : await this.storage.range(from, to));
    // What has changed while it looked counts: a message that was sent meanwhile must not come back.
    for (const layer of [...before, this.writing, this.pending]) {
      for (const key of merged.keys()) if (layer?.clear.some((range) => lies(key, range))) merged.delete(key);
      for (const [key, value] of layer?.put ?? []) {
        if (value === null) merged.delete(key);
        else if (lies(key, [from, to])) merged.set(key, value);
      }
    }
    return [...merged].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** Writes what is left, once, and ends. */
  async close(): Promise<void> {
    this.timer.stop();
    if (this.writing) await new Promise<void>((resolve) => this.writing?.attempts.push(resolve));
    this.timer.stop();
    await this.write();
    this.closed = true;
    this.timer.stop();
  }

  private schedule(): void {
    if (this.scheduled || this.writing || this.closed || this.timer.isSet) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      if (!this.writing) void this.write();
    });
  }

  private failed(error: unknown): void {
    if (this.failures === 0) this.onFailing(true, error);
    this.failures += 1;
  }

  private async write(): Promise<void> {
    if (this.closed || this.writing || !this.last) return;
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
      const wait = Math.min(RETRY_FIRST_MS * 2 ** this.failures, RETRY_MAX_MS);
      this.failed(error);
      if (!this.closed) this.timer.set(wait, () => void this.write());
      // Those that have come meanwhile do not wait for the next attempt.
      for (const resolve of this.pending.attempts.splice(0)) resolve();
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

  range(from: string, to: string): Promise<[string, string][]> {
    return this.journal.range(from, to);
  }

  end(): void {
    this.ended = true;
  }
}

/** The value of one key. */
export async function valueIn(journal: Pages, key: string): Promise<string | undefined> {
  return (await journal.range(key, `${key}~`))[0]?.[1];
}

function lies(key: string, [from, to]: Range): boolean {
  return key >= from && key < to;
}

/** What two batches, one after the other, change together. */
function together(first: Pending, second: Pending): Pending {
  const put = [...first.put].filter(([key]) => !second.clear.some((range) => lies(key, range)));
  const clear = first.clear.filter(([from, to]) => !second.clear.some(([first, end]) => first <= from && end >= to));
  return {
    clear: [...clear, ...second.clear], put: new Map([...put, ...second.put]), waiting: [...first.waiting, ...second.waiting], attempts: [...first.attempts, ...second.attempts],
  };
}
