import { createContext, useCallback, useContext, useEffect, useState } from "react";
import { MembersBookError } from "@members-book/client";
import type { ClubInfo, Member, RegistrationPolicy } from "@members-book/client";

import { useQuery } from "./query";
import { useAccount } from "./rest";

/** What is taken to be so of a server that cannot say: the form is shown, and sending it says what is wrong. */
const UNKNOWN: ClubInfo = { registration: "open", invitations: "admins", setup_needed: false, sends_mail: false, push: { enabled: false, web_key: null } };
/** Between two attempts to reach a server that is not ready, in milliseconds. */
const AGAIN_MS = 3_000;
/** How long a server may take to answer before that is said, in milliseconds. */
const PATIENCE_MS = 2_500;

/** What was known when the screens appeared: none of them is shown for a moment to lead elsewhere then. */
export const ClubContext = createContext<ClubInfo | undefined>(undefined);

/** Who may register and who may invite, and whether the club has no administrator yet. Undefined until it is known. */
export function useClub(): ClubInfo | undefined {
  const account = useAccount();
  const known = useContext(ClubContext);
  return useQuery("club", () => account.club().catch(() => known ?? UNKNOWN)).data ?? known;
}

/** How the club is, as soon as the server can say. Until then why not, in words; it is asked again. */
export function useReady(): { club: ClubInfo | undefined; problem: string | undefined; retry: () => void } {
  const account = useAccount();
  const [club, setClub] = useState<ClubInfo>();
  const [problem, setProblem] = useState<string>();
  const [round, setRound] = useState(0);
  const ready = club !== undefined;
  useEffect(() => {
    if (ready) return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gone = false;
    const ask = () => {
      timer = setTimeout(() => setProblem("The server does not answer at the moment."), PATIENCE_MS);
      account.club().then(
        (answer) => {
          clearTimeout(timer);
          if (!gone) setClub(answer);
        },
        (cause: unknown) => {
          clearTimeout(timer);
          if (gone) return;
          const reached = cause instanceof MembersBookError && cause.code !== "network";
          // A server that knows nothing of it, or refuses to say: the form says the rest.
          if (reached && cause.verdict !== "retry") return setClub(UNKNOWN);
          setProblem(reached ? "The server cannot reach its database at the moment." : "The server cannot be reached at the moment.");
          timer = setTimeout(ask, AGAIN_MS);
        },
      );
    };
    ask();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [account, ready, round]);
  const retry = useCallback(() => setRound((n) => n + 1), []);
  return { club, problem, retry };
}

/** Whether somebody may invite others: nobody may as long as nobody can come. */
export function mayInvite(club: ClubInfo | undefined, { user_type }: Member): boolean {
  return club !== undefined && club.registration !== "closed" && (user_type === "admin" || club.invitations === "members");
}

/** Who can join, in a sentence for members. */
export const REGISTRATION: Record<RegistrationPolicy, string> = {
  open: "Registration is open: anybody who reaches the server can join, with an invitation or without one.",
  invite: "The club takes members by invitation: nobody can register without one.",
  approval: "Who registers waits until an administrator lets them in; with an invitation they are in at once.",
  closed: "Registration is closed: nobody can join, and no invitations are made.",
};

/** Whether the server is known to send no mail. */
export function useSendsNone(): boolean {
  const club = useClub();
  return club !== undefined && club !== UNKNOWN && !club.sends_mail;
}

/** Whether the server sends mail, as far as is known. */
export function useSendsMail(): boolean {
  return useClub()?.sends_mail ?? false;
}
