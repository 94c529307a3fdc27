/** The first wait, and the longest one, in milliseconds. */
const FIRST_MS = 500;
const MAX_MS = 30_000;

/** How long to wait before the next attempt: doubled each time, and spread over all of it (full jitter). */
export class Backoff {
  private attempts = 0;

  constructor(private readonly random: () => number) {}

  /** The next wait. What the server says is not spread: it has done that. */
  next(retryAfterMs?: number): number {
    const bound = Math.min(FIRST_MS * 2 ** Math.min(this.attempts, 10), MAX_MS);
    this.attempts += 1;
    return retryAfterMs ?? Math.ceil(bound * this.random());
  }

  reset(): void {
    this.attempts = 0;
  }
}
