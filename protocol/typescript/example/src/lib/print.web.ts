/** Prints a text, and nothing else of the page: `base.css` hides the rest on paper. */
export const print: ((text: string) => void) | undefined = (text) => {
  const sheet = document.createElement("pre");
  sheet.className = "printed";
  sheet.textContent = text;
  document.body.append(sheet);
  window.print();
  // Some browsers come back before it is printed.
  window.addEventListener("afterprint", () => sheet.remove(), { once: true });
  setTimeout(() => sheet.remove(), 60_000);
};
