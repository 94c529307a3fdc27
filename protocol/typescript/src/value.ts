import type { Observable } from "./environment.js";

/** A value that others can watch. */
export class Value<T> implements Observable<T> {
  private readonly listeners = new Set<() => void>();
  /** Told when the first one subscribes, and when the last one has left. */
  onWatched: ((watched: boolean) => void) | undefined;

  constructor(private value: T) {}

  readonly getSnapshot = (): T => this.value;

  readonly subscribe = (listener: () => void): (() => void) => {
    // The same function may be given twice: each subscription is one of its own.
    const own = () => listener();
    this.listeners.add(own);
    if (this.listeners.size === 1) this.onWatched?.(true);
    return () => {
      if (this.listeners.delete(own) && this.listeners.size === 0) this.onWatched?.(false);
    };
  };

  /** Whether anybody watches. */
  get watched(): boolean {
    return this.listeners.size > 0;
  }

  /** Changes it, and tells if it is another one. A listener that throws does not keep it from the others. */
  set(value: T): void {
    if (Object.is(value, this.value)) return;
    this.value = value;
    for (const listener of [...this.listeners]) {
      try {
        listener();
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
