import { createWebClient } from "@members-book/client/web";
import type { MembersBook } from "@members-book/client";

/** The client of a tab. */
export function createClient(url: string): Promise<MembersBook> {
  return createWebClient({ url });
}
