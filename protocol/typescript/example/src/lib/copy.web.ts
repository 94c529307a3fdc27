/** Puts a text where it can be pasted from. False if the browser does not let the page do that. */
export async function copy(text: string): Promise<boolean> {
  try {
    // Only pages that came over HTTPS, or from this machine, have it.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
