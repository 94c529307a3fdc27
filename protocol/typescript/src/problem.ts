import { MembersBookError } from "./errors.js";
import type { ErrorCode } from "./protocol.js";
import type { Problem } from "./types.js";

/** An error, as it is shown. */
export function problemOf(error: unknown): Problem {
  const known = error instanceof MembersBookError ? error : new MembersBookError("network", String(error));
  const field = known.details.fields?.[0]?.field;
  return { code: known.code, message: known.message, verdict: known.verdict, ...(field ? { field } : {}) };
}

/** What an `error` frame says. */
export function errorOf(frame: { code: ErrorCode; message: string; field?: string; retry_after_ms?: number }): MembersBookError {
  const fields = frame.field === undefined ? undefined : [{ field: frame.field, message: frame.message }];
  return new MembersBookError(frame.code, frame.message, { retryAfterMs: frame.retry_after_ms, fields });
}
