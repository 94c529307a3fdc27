/** Puts a text where it can be pasted from. False if the browser does not let the page do that. */
export async function copy(text: string): Promise<boolean> {
  try {
    // Only pages that came over HTTPS, or from this machine, have it.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

/** The way of before, which every page has: the text is selected in a field, and the browser copies what is selected. */
function copySelected(text: string): boolean {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.readOnly = true;
  field.setAttribute("aria-hidden", "true");
  field.style.cssText = "position:fixed;top:0;left:0;opacity:0";
  // A dialog keeps the focus within itself.
  (before?.closest("[role=dialog]") ?? document.body).append(field);
  try {
    field.select();
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    field.remove();
    if (before instanceof HTMLElement) before.focus({ preventScroll: true });
  }
}
