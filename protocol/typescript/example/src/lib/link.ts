import { useEffect, useState } from "react";
import { useLocalSearchParams, useRouter } from "expo-router";

import { isWeb } from "./platform";

/** The token of the link that opened this screen. It is taken out of the address at once: what is in it, others may see, and it would be kept in the history. */
export function useLinkToken(): string | undefined {
  const router = useRouter();
  const { token } = useLocalSearchParams<{ token?: string }>();
  const [kept, keep] = useState(token);
  useEffect(() => {
    if (!token) return undefined;
    // A further link may have been opened while the screen was there.
    keep(token);
    if (!isWeb) {
      router.setParams({ token: undefined });
      return undefined;
    }
    const clean = () => window.history.replaceState(window.history.state, "", window.location.pathname);
    clean();
    // The router writes the address that it was opened with once more, after the screens are there.
    const timer = setTimeout(clean, 0);
    return () => clearTimeout(timer);
  }, [token, router]);
  return kept;
}
