import { ERROR_RETRY } from "./protocol.js";
import type { ErrorCode, FieldError, Timestamp } from "./protocol.js";

/**
 * What to do about an error. `retry`: the same again, after `retryAfterMs` or with back-off. `log_in`: with a new session. `reload`: read it again first, somebody
 * else was faster. `fix`: it will fail again as it is: show it.
 */
export type ErrorVerdict = "retry" | "log_in" | "reload" | "fix";

/** Why a request failed: the server's code, or `network` when it was not reached or did not answer in time. */
export class MembersBookError extends Error {
  override readonly name = "MembersBookError";
  readonly verdict: ErrorVerdict;

  constructor(
    /** For programs. */
    readonly code: ErrorCode | "network" | "storage",
    /** For people. */
    message: string,
    readonly details: {
      /** When to try again, in milliseconds from now. */
      retryAfterMs?: number | undefined;
      /** Every field that is wrong. */
      fields?: readonly FieldError[] | undefined;
      /** When what is refused for a time will be allowed: of `member_suspended`. */
      until?: Timestamp | undefined;
      /** The id of the request, for support. */
      requestId?: string | undefined;
    } = {},
  ) {
    super(message);
    this.verdict = verdictOf(code);
  }
}

/** What to do about an error code. One that this version does not know will fail again. */
export function verdictOf(code: ErrorCode | "network" | "storage"): ErrorVerdict {
  if (code === "network" || code === "storage") return "retry";
  switch (ERROR_RETRY[code]) {
    case "later":
      return "retry";
    case "after_refresh":
    case "after_login":
      return "log_in";
    case "after_reading":
      return "reload";
    default:
      return "fix";
  }
}
