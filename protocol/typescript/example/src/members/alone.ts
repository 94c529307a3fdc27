import { useEffect } from "react";

import { useForeground } from "@/lib/foreground";
import { useQuery } from "@/lib/query";
import { useMembers } from "@/lib/rest";

/** Who is alone is told nothing when somebody joins: it is asked for so often, in milliseconds, while somebody looks. */
const AGAIN_MS = 10_000;

/** Whether who is signed in is the only member of the club. Undefined until it is known. */
export function useAlone(): boolean | undefined {
  const members = useMembers();
  const looking = useForeground();
  const { data, reload } = useQuery("alone", async () => (await members.directory({ limit: 2 })).members.length < 2);
  const asks = data === true && looking;
  useEffect(() => {
    if (!asks) return undefined;
    const timer = setInterval(reload, AGAIN_MS);
    return () => clearInterval(timer);
  }, [asks, reload]);
  return data;
}
