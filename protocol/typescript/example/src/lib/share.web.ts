import { copy } from "./copy";

/** What the button says. */
export const SHARE_LABEL = "Copy link";

/** Copies a text. Resolves to what is to be said of that. */
export async function share(text: string): Promise<string | undefined> {
  if (await copy(text)) return "Link copied";
  throw new Error("This browser does not let the page copy: mark the link and copy it.");
}
