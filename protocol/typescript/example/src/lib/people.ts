import { useCallback } from "react";
import { useMember, usePresence, useSession } from "@members-book/client/react";
import type { ConversationView, Member, MemberId, PresenceView } from "@members-book/client";

import { useTicking } from "./ticking";
import { lastSeen } from "./time";

/** The record of who is signed in. Below the guard of the club's screens there is always one. */
export function useMe(): Member {
  const session = useSession();
  if (session.status !== "signed_in") throw new Error("useMe: nobody is signed in");
  return session.member;
}

/** Who the conversation is with. */
export function partnerOf(conversation: ConversationView): MemberId | undefined {
  return conversation.others[0];
}

export function useName(member: MemberId): string {
  return useMember(member)?.name ?? "…";
}

function presenceText(presence: PresenceView, now: number): string | undefined {
  if (presence.status === "online") return "online";
  if (presence.status === "away") return "away";
  return presence.lastSeen === undefined ? undefined : lastSeen(presence.lastSeen, now);
}

/** How a member is, in words that stay true as time goes by. `gone`: they are not active in the club, so nothing is said of it. */
export function usePresenceText(member: MemberId, gone: boolean): string | undefined {
  const presence = usePresence(member);
  return useTicking(useCallback((now: number) => (gone ? undefined : presenceText(presence, now)), [gone, presence]));
}

export function countText(count: number, more: boolean): string {
  return more ? `${count.toLocaleString("en")}+` : count.toLocaleString("en");
}
