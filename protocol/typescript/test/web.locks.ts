import type { Locks } from "../src/web/host.js";

interface Request {
  readonly name: string;
  readonly tab: object;
  readonly granted: () => void;
}

/** Web Locks of one browser, as the standard says (exclusive ones only): a queue for each name, `ifAvailable`, `signal`, and the end of a tab. */
export class LockServer {
  private readonly held = new Map<string, Request>();
  private readonly waiting = new Map<string, Request[]>();

  /** Who has a lock. */
  holder(name: string): object | undefined {
    return this.held.get(name)?.tab;
  }

  /** How many wait for it. */
  queued(name: string): number {
    return this.waiting.get(name)?.length ?? 0;
  }

  /** The locks as one tab has them. */
  tab(tab: object): Locks {
    return { request: (name, options, work) => this.request(tab, name, options, work) };
  }

  /** A tab is gone: what it has is free, what it waits for is not wanted any more, and no promise of it is ever settled. */
  close(tab: object): void {
    for (const [name, queue] of this.waiting) this.waiting.set(name, queue.filter((request) => request.tab !== tab));
    for (const [name, request] of [...this.held]) if (request.tab === tab) this.release(name, request);
  }

  private request<T>(tab: object, name: string, { ifAvailable, signal }: { ifAvailable?: boolean; signal?: AbortSignal }, work: (lock: unknown) => Promise<T>): Promise<T> {
    if (ifAvailable && signal) return Promise.reject(new DOMException("ifAvailable and signal", "NotSupportedError"));
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    return new Promise<T>((resolve, reject) => {
      const free = !this.held.has(name) && this.queued(name) === 0;
      if (ifAvailable && !free) {
        setTimeout(() => void Promise.resolve(work(null)).then(resolve, reject));
        return;
      }
      const request: Request = {
        name,
        tab,
        granted: () => {
          signal?.removeEventListener("abort", abort);
          void Promise.resolve(work({ name, mode: "exclusive" })).then(resolve, reject).finally(() => this.release(name, request));
        },
      };
      const abort = () => {
        const queue = this.waiting.get(name) ?? [];
        const place = queue.indexOf(request);
        if (place < 0) return;
        queue.splice(place, 1);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.waiting.set(name, [...(this.waiting.get(name) ?? []), request]);
      this.process(name);
    });
  }

  private release(name: string, request: Request): void {
    if (this.held.get(name) !== request) return;
    this.held.delete(name);
    this.process(name);
  }

  private process(name: string): void {
    const [next, ...others] = this.waiting.get(name) ?? [];
    if (!next || this.held.has(name)) return;
    this.waiting.set(name, others);
    this.held.set(name, next);
    // The callback runs later: the lock is held by then.
    setTimeout(next.granted);
  }
}
