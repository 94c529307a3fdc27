import type { MessageView } from "@members-book/client";

/** A run of messages that is drawn, or not, as a whole. */
export interface Chunk {
  /** The key of its first message. */
  readonly key: string;
  /** Where it begins and ends in the messages. */
  readonly from: number;
  readonly to: number;
}

const SIZE = 40;

/**
 * Cuts the messages into chunks. Cuts that were made stay where they are (they are the keys of the messages after them), whatever is put in front or added at the
 * end, so what is drawn of a chunk, and how high it is, stays good.
 */
export class Cutter {
  private starts = new Set<string>();

  cut(messages: readonly MessageView[]): Chunk[] {
    const known: number[] = [];
    messages.forEach((message, index) => {
      if (this.starts.has(message.key)) known.push(index);
    });
    const cuts: number[] = [];
    // What came in front of the first cut is cut from its end.
    const first = known[0] ?? 0;
    for (let at = first - SIZE; at > 0; at -= SIZE) cuts.unshift(at);
    if (first > 0) cuts.unshift(0);
    known.forEach((at, index) => {
      const end = known[index + 1] ?? messages.length;
      for (let cut = at; cut === at || cut + SIZE / 2 < end; cut += SIZE) cuts.push(cut);
    });
    if (known.length === 0) for (let at = 0; at < messages.length; at += SIZE) cuts.push(at);
    const chunks = cuts.flatMap((from, index): Chunk[] => {
      const key = messages[from]?.key;
      return key === undefined ? [] : [{ key, from, to: cuts[index + 1] ?? messages.length }];
    });
    this.starts = new Set(chunks.map((chunk) => chunk.key));
    return chunks;
  }
}
