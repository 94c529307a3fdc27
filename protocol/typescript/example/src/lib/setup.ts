import { createContext, useCallback, useContext, useEffect, useState } from "react";
import { MembersBookError } from "@members-book/client";
import { useClient } from "@members-book/client/react";

import { useQuery } from "./query";

/** Between two attempts to reach a server that is not ready, in milliseconds. */
const AGAIN_MS = 3_000;

/** Whether the server has no administrator yet, and waits for its setup code. One that does not answer is taken to have one. */
export function useSetupNeeded(): boolean {
  const { api } = useClient();
  const known = useContext(SetupContext);
  const query = useQuery("setup", () => api.setupNeeded().catch(() => ({ needed: known })));
  return query.data?.needed ?? known;
}

/** What was known when the screens appeared: none of them is shown for a moment to lead elsewhere then. */
export const SetupContext = createContext(false);

/** Whether the server can say how the club is. If not, why, in words; it is asked again until it can. */
export function useReady(): { ready: boolean; needed: boolean; problem: string | undefined; retry: () => void } {
  const { api } = useClient();
  const [ready, setReady] = useState(false);
  const [needed, setNeeded] = useState(false);
  const [problem, setProblem] = useState<string>();
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (ready) return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gone = false;
    const ask = () => {
      api.setupNeeded().then(
        (answer) => {
          if (gone) return;
          setNeeded(answer.needed);
          setReady(true);
        },
        (cause: unknown) => {
          if (gone) return;
          const reached = cause instanceof MembersBookError && cause.code !== "network";
          // A server that knows no setup, or refuses to say: the form says the rest.
          if (reached && cause.verdict !== "retry") return setReady(true);
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
  }, [api, ready, round]);
  const retry = useCallback(() => setRound((n) => n + 1), []);
  return { ready, needed, problem, retry };
}
