import { createContext, useCallback, useContext, useEffect, useMemo, useState } from "react";
import type { ReactNode } from "react";
import { People } from "@members-book/client/people";
import { MembersBookProvider } from "@members-book/client/react";
import type { DevicePush } from "@members-book/client/push";
import type { MembersBook } from "@members-book/client";

import { PushContext } from "@/push/context";
import { createPush } from "@/push/device";
import { Failed, Loading } from "@/ui";
import { createClient } from "./client";
import { followDrafts } from "./drafts";
import { failureOf } from "./query";
import type { Failure } from "./query";
import { keepServerUrl, serverUrl } from "./server";

interface ServerState {
  /** Where the server is, once it is known. */
  url: string | undefined;
  /** Another server: only while nobody is signed in. */
  setUrl: (url: string) => void;
}

const ServerContext = createContext<ServerState>({ url: undefined, setUrl: () => undefined });

export function useServer(): ServerState {
  return useContext(ServerContext);
}

/** Makes the client for the server, and another one when the server changes. `welcome` is shown as long as no server is known. */
export function ServerProvider({ welcome, children }: { welcome: ReactNode; children: ReactNode }) {
  const [url, keepUrl] = useState(serverUrl);
  const [made, setMade] = useState<{ url: string; client: MembersBook; push: DevicePush }>();
  const [failure, setFailure] = useState<Failure>();
  const [round, setRound] = useState(0);

  useEffect(() => {
    if (url === undefined) return undefined;
    let client: MembersBook | undefined;
    let end: (() => void) | undefined;
    let gone = false;
    setFailure(undefined);
    createClient(url).then(
      (next) => {
        client = next;
        if (gone) {
          void next.stop();
          return;
        }
        const unfollow = followDrafts(next, url);
        // Names are read with everything else, and there with the first screen.
        new People(next);
        const push = createPush(next);
        end = () => {
          unfollow();
          push.stop();
        };
        setMade({ url, client: next, push });
      },
      (cause: unknown) => !gone && setFailure(failureOf(cause)),
    );
    return () => {
      gone = true;
      end?.();
      void client?.stop();
    };
  }, [url, round]);

  const setUrl = useCallback((next: string) => {
    keepServerUrl(next);
    keepUrl(next);
  }, []);
  const value = useMemo(() => ({ url, setUrl }), [url, setUrl]);

  let content: ReactNode;
  if (url === undefined) content = welcome;
  else if (failure) content = <Failed failure={failure} onRetry={() => setRound((n) => n + 1)} />;
  else if (made?.url !== url) content = <Loading />;
  else content = <MembersBookProvider key={url} client={made.client}><PushContext.Provider value={made.push}>{children}</PushContext.Provider></MembersBookProvider>;
  return <ServerContext.Provider value={value}>{content}</ServerContext.Provider>;
}
