import { useMemo } from "react";
import type { Api } from "@members-book/client";
import { Account } from "@members-book/client/account";
import { Invitations } from "@members-book/client/invitations";
import { Members } from "@members-book/client/members";
import { Push } from "@members-book/client/push";
import { useClient } from "@members-book/client/react";

function useRest<T>(Rest: new (api: Api) => T): T {
  const { api } = useClient();
  return useMemo(() => new Rest(api), [Rest, api]);
}

/** The account of who is signed in, and what comes before it. */
export function useAccount(): Account {
  return useRest(Account);
}

/** Profiles, the directory, and advice on them. */
export function useMembers(): Members {
  return useRest(Members);
}

/** Who may come in. */
export function useInvitations(): Invitations {
  return useRest(Invitations);
}

/** What the member wants to be told by notifications, and where. */
export function usePushSettings(): Push {
  return useRest(Push);
}
