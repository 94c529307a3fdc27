import { within } from "./check.js";

/** The first wait, the longest one, and the shortest one, in milliseconds. */
const FIRST_MS = 500;
export const MAX_MS = 30_000;
const LEAST_MS = 100;
/** The longest wait that a server may ask for, in milliseconds. */
export const ASKED_MAX_MS = 3_600_000;

/** How long to wait before the next attempt: doubled each time, and spread over all of it (full jitter). */
export class Backoff {
  private attempts = 0;

  /** `longest`: the longest wait, in milliseconds. */
  constructor(private readonly random: () => number, private readonly longest: () => number = () => MAX_MS) {}

  /** The next wait. What the server says is not spread: it has done that. */
  next(retryAfterMs?: number): number {
    const bound = Math.min(FIRST_MS * 2 ** Math.min(this.attempts, 10), this.longest());
    this.attempts += 1;
    return within(retryAfterMs, LEAST_MS, ASKED_MAX_MS, Math.max(LEAST_MS, Math.ceil(bound * this.random())));
  }

  reset(): void {
    this.attempts = 0;
  }
}
