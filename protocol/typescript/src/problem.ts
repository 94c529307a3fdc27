import { MembersBookError, refusal } from "./errors.js";
import { given } from "./json.js";
import type { ErrorCode } from "./protocol.js";
import type { Problem } from "./types.js";

/** An error, as it is shown. */
export function problemOf(error: unknown): Problem {
  const known = error instanceof MembersBookError ? error : new MembersBookError("network", String(error));
  const field = known.details.fields?.[0]?.field;
  return { code: known.code, message: known.message, verdict: known.verdict, ...given({ field }) };
}

/** After a refusal, in milliseconds. */
export const REFUSED_MS = 2_000;

/** When the server wants it again, if it has said so; in milliseconds from now. */
export function retryAfter(error: unknown): number | undefined {
  return error instanceof MembersBookError ? error.details.retryAfterMs : undefined;
}

/** How long to wait before it is said again, in milliseconds; not at all, if it would be refused again. */
export function pauseAfter(error: unknown): number | undefined {
  return problemOf(error).verdict === "fix" ? undefined : (retryAfter(error) ?? REFUSED_MS);
}

/** What an `error` frame says. */
export function errorOf(frame: { code: ErrorCode; message: string; field?: string; retry_after_ms?: number }): MembersBookError {
  const fields = frame.field === undefined ? undefined : [{ field: frame.field, message: frame.message }];
  return refusal(frame.code, frame.message, { retryAfterMs: frame.retry_after_ms, fields });
}
