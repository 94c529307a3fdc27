import type { Observable } from "./environment.js";

/** A value that others can watch. */
export class Value<T> implements Observable<T> {
  private readonly listeners = new Set<() => void>();
  /** Where it is, once it is the same as another one. */
  private other: Value<T> | undefined;
  /** Told when the first one subscribes, and when the last one has left. */
  onWatched: ((watched: boolean) => void) | undefined;

  constructor(private value: T) {}

  readonly getSnapshot = (): T => this.real.value;

  readonly subscribe = (listener: () => void): (() => void) => {
    // The same function may be given twice: each subscription is one of its own.
    const own = () => listener();
    const { real } = this;
    real.listeners.add(own);
    if (real.listeners.size === 1) real.onWatched?.(true);
    return () => {
      const { real } = this;
      if (real.listeners.delete(own) && !real.watched) real.onWatched?.(false);
    };
  };

  /** Whether anybody watches. */
  get watched(): boolean {
    return this.real.listeners.size > 0;
  }

  /** It, or the one that it is the same as. */
  private get real(): Value<T> {
    return this.other?.real ?? this;
  }

  /** Changes it, and tells if it is another one. A listener that throws does not keep it from the others. */
  set(value: T): void {
    if (Object.is(value, this.value)) return;
    this.value = value;
    this.tell(this.listeners);
  }

  /** From now on it is the same as another one: who watches this one watches that one. */
  become(other: Value<T>): void {
    const { real } = other;
    const { watched } = real;
    for (const own of this.listeners) real.listeners.add(own);
    this.other = real;
    if (!watched && real.watched) real.onWatched?.(true);
    this.tell(this.listeners);
  }

  private tell(listeners: Set<() => void>): void {
    for (const listener of [...listeners]) {
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

/** Whether two values look the same on a screen: their fields, or what is in them, are the same. */
export function alike(a: object, b: object): boolean {
  const names = Object.keys(a) as (keyof object)[];
  return names.length === Object.keys(b).length && names.every((name) => {
    const [value, other]: [unknown, unknown] = [a[name], b[name]];
    return value === other || (Array.isArray(value) && Array.isArray(other) && alike(value, other));
  });
}
