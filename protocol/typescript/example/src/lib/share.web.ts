/** What the button says. */
export const SHARE_LABEL = "Copy link";

/** Copies a text. Resolves to what is to be said of that. */
export async function share(text: string): Promise<string | undefined> {
  // Only pages that came over HTTPS, or from this machine, may.
  if (!("clipboard" in navigator)) throw new Error("This browser does not let the page copy: mark the link and copy it.");
  await navigator.clipboard.writeText(text);
  return "Link copied";
}
