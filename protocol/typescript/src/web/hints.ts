import type { Clock } from "../environment.js";
import type { Events, TabClient, WebHost } from "./host.js";

/** Several events tell of one return to the tab: they are one hint. */
const ONE_HINT_MS = 1_000;

/**
 * Tells the client when the tab is looked at, and when the network has changed. Returns what ends that.
 *
 * @param check Looks whether the session is still there: a tab that slept was not told.
 */
export function giveHints(host: WebHost, client: Pick<TabClient, "wake" | "setStatus">, clock: Clock, check: () => void): () => void {
  const end = new AbortController();
  const { document } = host;
  let last = -Infinity;

  const on = (target: Events | undefined, names: readonly string[], call: () => void) => {
    for (const name of names) {
      target?.addEventListener(name, call);
      end.signal.addEventListener("abort", () => target?.removeEventListener(name, call), { once: true });
    }
  };
  const back = () => {
    const now = clock.monotonic();
    if (now - last < ONE_HINT_MS) return;
    last = now;
    client.wake();
    check();
  };
  const seen = () => {
    if (!document) return;
    const visible = document.visibilityState !== "hidden";
    client.setStatus(visible ? "online" : "away");
    if (visible) back();
  };

  on(document, ["visibilitychange"], seen);
  on(document, ["resume"], back);
  on(host.window, ["pageshow", "focus"], back);
  on(host.window, ["online"], () => client.wake());
  on(host.network, ["change"], () => client.wake());
  if (document?.visibilityState === "hidden") client.setStatus("away");
  return () => end.abort();
}
