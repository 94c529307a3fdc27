import type { ConversationHandle, MembersBook } from "@members-book/client";

import { kv } from "./kv";

const PREFIX = "draft.";
const memory = new Map<string, string>();
/** What the drafts of who is signed in begin with: the server and the member. Nothing while nobody is. */
let own: string | undefined;
/** The same of who was signed in last. */
let last: string | undefined;

/** What was written and not sent, of the member who is signed in: by conversation, or by the name of a form. */
export const drafts = {
  get: (name: string): string => (own === undefined ? "" : (memory.get(own + name) ?? kv.get(own + name) ?? "")),
  set: (name: string, text: string): void => {
    if (own === undefined) return;
    memory.set(own + name, text);
    kv.set(own + name, text === "" ? null : text);
  },
  /** It is on its way to be a message: no draft any more, but for the next start. */
  hide: (name: string): void => {
    if (own !== undefined) memory.set(own + name, "");
  },
};

/**
 * A hidden draft has become a message that this device cannot keep (there is no room): it is a draft again if the app ends before the message is kept, or the server has it.
 */
export function holdDraft(client: MembersBook, conversation: ConversationHandle, id: string): void {
  if (own === undefined) return;
  const name = own + conversation.key;
  const ends: (() => void)[] = [];
  const look = () => {
    const status = conversation.messages.getSnapshot().messages.find(({ key }) => key === id)?.status;
    const waits = status === "queued" || status === "sending" || status === "failed";
    if (waits && client.connection.getSnapshot().storageFailing) return;
    for (const end of ends.splice(0)) end();
    // What was typed since then has taken its place.
    if (memory.get(name) === "") kv.set(name, null);
  };
  ends.push(client.connection.subscribe(look), conversation.messages.subscribe(look));
  look();
}

/**
 * Lets the drafts follow who is signed in. Those of a member go when everything of theirs goes from this device (a log-out, here or in another tab), and when somebody else signs in;
 * they stay while a session is over, as messages do that were not sent. Returns what ends that.
 */
export function followDrafts(client: MembersBook, url: string): () => void {
  const club = `${PREFIX}${new URL(url).host}.`;
  const look = () => {
    const session = client.session.getSnapshot();
    if (session.status === "signed_in") {
      const next = `${club}${session.id}.`;
      if (own === next) return;
      memory.clear();
      own = last = next;
      kv.clear(club, next);
      // Of versions that did not say whose they are.
      kv.clear(`${PREFIX}m_`);
      kv.clear(`${PREFIX}c_`);
    } else if (session.status === "signed_out") {
      own = undefined;
      memory.clear();
      if (session.reason !== undefined && session.reason !== "session_over" && last !== undefined) kv.clear(last);
    }
  };
  look();
  return client.session.subscribe(look);
}
