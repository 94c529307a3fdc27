import type { MembersBook } from "@members-book/client";
import { WebPush } from "@members-book/client/push";
import type { DevicePush } from "@members-book/client/push";

import { kv } from "@/lib/kv";
import { isOnScreen, openConversation } from "./opening";

/** What shows notifications, and lets the app start without the server. A browser has none without HTTPS (but on the machine itself), and in some private windows. */
async function startWorker(): Promise<ServiceWorkerRegistration | undefined> {
  if (__DEV__) return undefined;
  try {
    await navigator.serviceWorker.register("/app/sw.js", { scope: "/app/" });
    return await navigator.serviceWorker.ready;
  } catch {
    return undefined;
  }
}

const worker = startWorker();

/** Pushes to this browser. */
export function createPush(client: MembersBook): DevicePush {
  return new WebPush({ client, worker, memory: kv, open: openConversation, isOpen: isOnScreen });
}
