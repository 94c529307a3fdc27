import { useClient } from "@members-book/client/react";
import type { ClubInfo } from "@members-book/client";

import { useQuery } from "./query";

/** What is taken to be so of a server that does not answer: the form is shown, and sending it says what is wrong. */
const UNKNOWN: ClubInfo = { registration: "open", invitations: "admins", setup_needed: false };

/** Who may register and who may invite, and whether the club has no administrator yet. Undefined until it is known. */
export function useClub(): ClubInfo | undefined {
  const { api } = useClient();
  return useQuery("club", () => api.club().catch(() => UNKNOWN)).data;
}
