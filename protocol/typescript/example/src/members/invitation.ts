import type { CheckedInvitation, Invitation } from "@members-book/client";

import { failureOf, useQuery, useSettled } from "@/lib/query";
import { useInvitations } from "@/lib/rest";
import { dateTime } from "@/lib/time";

/** Letters and digits of a code. */
const DIGITS = 16;

/** Whether a code is there to its end. */
export function isWhole(code: string): boolean {
  return code.replace(/[-\s]/g, "").length >= DIGITS;
}

/** What the server says of a code, once it was typed to its end. */
export function useInvitation(code: string): { good?: CheckedInvitation; problem?: string } {
  const invitations = useInvitations();
  const settled = useSettled(code.trim(), 400);
  const wanted = isWhole(settled) ? settled : "";
  const { data } = useQuery(`invitation ${wanted}`, async () => {
    if (wanted === "") return {};
    try {
      return { good: await invitations.check(wanted) };
    } catch (cause) {
      const { code: why, message } = failureOf(cause);
      return { problem: why === "invitation_invalid" ? "This invitation is not good, or not any more. Ask whoever gave it to you for another one." : message };
    }
  });
  return data ?? {};
}

/** How it stands with an invitation, in a few words. */
export function standing({ uses, used, is_open, revoked_at, expires_at }: Invitation): string {
  const count = uses === 1 ? undefined : `${used} of ${uses} used`;
  const state = is_open ? `good until ${dateTime(expires_at)}` : revoked_at ? "revoked" : used >= uses ? "used" : "expired";
  return [state, count].filter(Boolean).join(" · ");
}
