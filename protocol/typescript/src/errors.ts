import { ERROR_RETRY } from "./protocol.js";
import type { ErrorCode, FieldError, Timestamp } from "./protocol.js";

/**
 * What to do about an error. `retry`: the same again, after `retryAfterMs` or with back-off. `log_in`: with a new session. `reload`: read it again first, somebody
 * else was faster. `fix`: it will fail again as it is: show it.
 */
export type ErrorVerdict = "retry" | "log_in" | "reload" | "fix";

/** Why something failed: the server's code; `network`: it was not reached or did not answer in time; `storage`: nothing can be kept; `stopped`: the client was stopped. */
export type ProblemCode = ErrorCode | "network" | "storage" | "stopped";

/** By when a request is sent again. */
const VERDICTS = { later: "retry", after_refresh: "log_in", after_login: "log_in", after_reading: "reload" } as const;

/** What people are told where the server speaks to developers. */
const TEXTS: Partial<Record<ErrorCode, string>> = {
  rate_limited: "That was too much at once. Try again in a moment.",
  invalid_credentials: "The e-mail address or the password is wrong.",
  content_empty: "The message has no text.",
  content_too_long: "The message is too long.",
  message_to_self: "This is you: there is nobody to send it to.",
};

/** Why a request failed: every error of the client is one. */
export class MembersBookError extends Error {
  override readonly name = "MembersBookError";
  readonly verdict: ErrorVerdict;

  constructor(
    /** For programs. */
    readonly code: ProblemCode,
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
      /** What the server said, if people are told something else. */
      said?: string | undefined;
    } = {},
  ) {
    super(message);
    this.verdict = verdictOf(code);
  }
}

/** What to do about an error code. One that this version does not know will fail again. */
export function verdictOf(code: ProblemCode): ErrorVerdict {
  if (code === "network" || code === "storage") return "retry";
  const when = ERROR_RETRY[code as ErrorCode];
  return (when && VERDICTS[when]) ?? "fix";
}

/** What the server said, or this client in its place. */
export function refusal(code: ErrorCode, said?: string, details?: MembersBookError["details"]): MembersBookError {
  const text = TEXTS[code] ?? (ERROR_RETRY[code] === "later" ? "The club does not answer at the moment. Try again later." : (said ?? code));
  return new MembersBookError(code, text, { ...details, said: said === text ? undefined : said });
}

/** What an app does that cannot be. */
export function misuse(message: string): MembersBookError {
  return new MembersBookError("validation_failed", message);
}

/** Nobody is signed in, or not any more. */
export function nobody(): MembersBookError {
  return new MembersBookError("token_missing", "Nobody is signed in.");
}
