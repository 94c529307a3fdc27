import { useCallback, useEffect, useState } from "react";
import { useFocusEffect, useRouter } from "expo-router";
import { useClient } from "@members-book/client/react";
import type { ConversationId } from "@members-book/client";

/** The conversation that is on the screen. */
let onScreen: ConversationId | undefined;
/** What was pressed, until there is a screen that can lead there: the app may have been started by it. */
let wanted: ConversationId | undefined;
let told: (() => void) | undefined;

/** Whether the conversation is on the screen. */
export function isOnScreen(conversation: ConversationId): boolean {
  return onScreen === conversation;
}

/** A conversation is to be shown: a notification of it was pressed. */
export function openConversation(conversation: ConversationId): void {
  wanted = conversation;
  told?.();
}

/** Leads to what was pressed, once somebody is signed in. */
export function useOpening(): void {
  const client = useClient();
  const router = useRouter();
  const [round, setRound] = useState(0);
  useEffect(() => {
    const tell = () => setRound((n) => n + 1);
    told = tell;
    return () => {
      if (told === tell) told = undefined;
    };
  }, []);
  useEffect(() => {
    if (wanted === undefined) return;
    const conversation = wanted;
    wanted = undefined;
    // Of the list, if it is known: the row is marked then.
    const { key } = client.conversation({ conversation }).info.getSnapshot();
    router.navigate({ pathname: "/chats/[key]", params: { key } });
  }, [client, router, round]);
}

/** This conversation is on the screen as long as its screen is the one that is seen. */
export function useOnScreen(conversation: ConversationId | undefined): void {
  useFocusEffect(useCallback(() => {
    onScreen = conversation;
    return () => {
      if (onScreen === conversation) onScreen = undefined;
    };
  }, [conversation]));
}
