import { path } from "./api.js";
import type { Api } from "./api.js";
import type { ConfiguredConversation, ConversationId, ConversationSettings } from "./protocol.js";

/** What a member sets of conversations, over the REST API of a client: `new Conversations(client.api)`. Every method throws `MembersBookError`. */
export class Conversations {
  constructor(private readonly api: Api) {}

  /**
   * Sets of which messages the member's devices are told by pushes, whole: for all devices, and for nobody else. What is set then comes over the connection, and is in `settings` of the
   * conversation. To mute for good say `muted_until: "9999-01-01T00:00:00.000Z"`.
   */
  configure(id: ConversationId, body: ConversationSettings): Promise<ConfiguredConversation> {
    return this.api.json(`/api/conversations/${path(id)}/settings`, { method: "PUT", body });
  }
}
