import { createContext, useContext, useEffect, useMemo, useState } from "react";
import type { ReactNode } from "react";
import type { MemberId } from "@members-book/client";

import { useMe } from "@/lib/people";
import { isWeb } from "@/lib/platform";

interface Unkept {
  readonly codes: readonly string[] | undefined;
  readonly setCodes: (codes: readonly string[] | undefined) => void;
}

const UnkeptContext = createContext<Unkept | undefined>(undefined);

/**
 * Recovery codes that the member has not kept yet: the server shows them once, so they stay wherever the member goes in the app. In memory alone, and only as long as this
 * member is signed in.
 */
export function UnkeptProvider({ children }: { children: ReactNode }) {
  const me = useMe()._id;
  const [unkept, setUnkept] = useState<{ member: MemberId; codes: readonly string[] }>();
  if (unkept && unkept.member !== me) setUnkept(undefined);
  const codes = unkept?.member === me ? unkept.codes : undefined;
  const waits = codes !== undefined;
  useEffect(() => {
    if (!isWeb || !waits) return undefined;
    // The browser asks before it leaves the page.
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [waits]);
  const value = useMemo<Unkept>(() => ({ codes, setCodes: (next) => setUnkept(next && { member: me, codes: next }) }), [codes, me]);
  return <UnkeptContext.Provider value={value}>{children}</UnkeptContext.Provider>;
}

export function useUnkeptCodes(): Unkept {
  const unkept = useContext(UnkeptContext);
  if (!unkept) throw new Error("useUnkeptCodes: there is no <UnkeptProvider> around this component");
  return unkept;
}
