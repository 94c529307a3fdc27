/** Waiting for conditions: no test sleeps to let something happen. */

/** Lets this much time pass: for the pace of a schedule, never to wait for an effect. */
export function pass(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Waits until the condition gives something other than `undefined`, `null` or `false`, and gives that. Throws after `ms`, with what `explain` says then.
 * A condition that throws does not hold yet; its error is part of the explanation.
 */
export async function until<T>(what: string, condition: () => T | Promise<T>, options: { ms?: number; every?: number; explain?: () => unknown } = {}): Promise<NonNullable<T>> {
  const started = performance.now();
  const ms = options.ms ?? 10_000;
  let error: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value !== undefined && value !== null && value !== false) return value as NonNullable<T>;
      error = undefined;
    } catch (cause) {
      error = cause;
    }
    if (performance.now() - started > ms) {
      const explained = options.explain ? `\n${text(options.explain())}` : "";
      const thrown = error === undefined ? "" : `\n${error instanceof Error ? error.message : String(error)}`;
      throw new Error(`Not within ${ms} ms: ${what}${explained}${thrown}`);
    }
    await pass(options.every ?? 10);
  }
}

function text(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, undefined, 1);
}

/** Repeatable chance: the same seed gives the same numbers. */
export class Chance {
  constructor(private state: number) {}

  /** From 0 to below 1. */
  readonly next = (): number => {
    // mulberry32
    this.state = (this.state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };

  /** A whole number: `from <= n < to`. */
  between(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from));
  }

  /** Whether something happens that happens so often. */
  likely(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(list: readonly T[]): T {
    const value = list[this.between(0, list.length)];
    if (value === undefined) throw new Error("nothing to choose from");
    return value;
  }

  /** Another source, which does not change what this one gives. */
  fork(): Chance {
    return new Chance(this.between(0, 2 ** 31));
  }
}
