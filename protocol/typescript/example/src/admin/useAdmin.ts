import { useMemo } from "react";
import { Administration } from "@members-book/client/admin";
import { useClient } from "@members-book/client/react";

/** What administrators may do. */
export function useAdmin(): Administration {
  const { api } = useClient();
  return useMemo(() => new Administration(api), [api]);
}
