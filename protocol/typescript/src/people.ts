import { keyFor } from "./book.js";
import type { Observable } from "./environment.js";
import type { MemberId } from "./protocol.js";
import { Roster } from "./roster.js";
import type { ConversationHandle, MembersBook, MemberView, PresenceView, Target } from "./types.js";
import { Typing } from "./typing.js";

/**
 * Other members, as far as they are known, how they are, and whether they type: `new People(client)`, as often as one likes. One that is made together with the client
 * has what is stored before anybody is signed in, so names are there at once; the hooks make their own. While nobody is signed in everybody is unknown; what was got
 * before is of whoever signs in next.
 */
export class People {
  constructor(private readonly client: MembersBook) {
    client.extend(roster);
    client.extend(typing);
  }

  /** What is known of a member. Asked for over REST when somebody subscribes and nothing is known. */
  member(id: MemberId): Observable<MemberView | undefined> {
    return this.client.extend(roster).member(id);
  }

  /** The presence of a member; watched as long as somebody has subscribed. */
  presence(id: MemberId): Observable<PresenceView> {
    return this.client.extend(roster).presence(id);
  }

  /** The member is typing in a conversation (call it at every key), or has stopped. Who else is, is in the conversation's `info`. */
  typing(conversation: ConversationHandle | Target, active: boolean): void {
    this.client.extend(typing).say("key" in conversation ? conversation.key : keyFor(conversation), active);
  }
}

function typing(): Typing {
  return new Typing();
}

function roster(): Roster {
  return new Roster();
}
