import type { Clock } from "./environment.js";

/** A timer of one purpose: what it is set to takes the place of what it was set to before. */
export class Timer {
  private running: unknown;

  constructor(private readonly clock: Clock) {}

  get isSet(): boolean {
    return this.running !== undefined;
  }

  /** Calls once, after so many milliseconds. */
  set(ms: number, call: () => void): void {
    this.stop();
    this.running = this.clock.setTimeout(() => {
      this.running = undefined;
      call();
    }, ms);
  }

  stop(): void {
    this.clock.clearTimeout(this.running);
    this.running = undefined;
  }
}
