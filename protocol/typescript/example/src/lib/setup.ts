import { useClient } from "@members-book/client/react";

import { useQuery } from "./query";

/** Whether the server has no administrator yet, and waits for its setup code. One that does not answer is taken to have one. */
export function useSetupNeeded(): boolean {
  const { api } = useClient();
  const query = useQuery("setup", () => api.setupNeeded().catch(() => ({ needed: false })));
  return query.data?.needed ?? false;
}
