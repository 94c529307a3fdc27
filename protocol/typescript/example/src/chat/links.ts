/** A piece of a message: a text, or an address. */
export interface Piece {
  readonly text: string;
  readonly href?: string;
}

/** What ends a sentence or a bracket, and not an address. */
const TAIL = /[.,;:!?'"»”’\]}>]+$/u;
const ADDRESS = /https?:\/\/[^\s<>"“”«»]+/giu;
/** More links than a message needs. */
const LINKS_MAX = 50;

/** Finds the addresses in a message: of the web, and nothing else. */
export function piecesOf(content: string): readonly Piece[] {
  const pieces: Piece[] = [];
  let end = 0;
  for (const match of content.matchAll(ADDRESS)) {
    if (pieces.length > 2 * LINKS_MAX) break;
    let text = match[0].replace(TAIL, "");
    while (text.endsWith(")") && !text.includes("(")) text = text.slice(0, -1).replace(TAIL, "");
    const href = hrefOf(text);
    if (href === undefined) continue;
    if (match.index > end) pieces.push({ text: content.slice(end, match.index) });
    pieces.push({ text, href });
    end = match.index + text.length;
  }
  if (end < content.length) pieces.push({ text: content.slice(end) });
  return pieces;
}

function hrefOf(text: string): string | undefined {
  try {
    const url = new URL(text);
    return (url.protocol === "https:" || url.protocol === "http:") && url.hostname !== "" ? url.href : undefined;
  } catch {
    return undefined;
  }
}
