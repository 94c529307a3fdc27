import { createWebClient } from "@members-book/client/web";
import type { MembersBook } from "@members-book/client";

import { deviceName } from "./device";

/** The client of a tab. */
export function createClient(url: string): Promise<MembersBook> {
  return createWebClient({ url, deviceName: deviceName() });
}
