import { useState } from "react";
import { View } from "react-native";
import { usePathname } from "expo-router";
import { useConversations } from "@members-book/client/react";

import { kv } from "@/lib/kv";
import { useAction } from "@/lib/query";
import { makeStyles, space } from "@/theme";
import { Button, Sheet, Text } from "@/ui";
import { usePush, usePushState } from "./context";

/** In the memory of the device: they were asked, and it is in the settings from then on. */
const ASKED = "push.asked";

/**
 * Asks whether notifications are wanted, once there is something to be told of: the first message was sent, or has come. Before the system is asked, which asks once, and remembers
 * a no for ever. Not over a conversation: nobody is interrupted who writes.
 */
export function AskForPush() {
  const styles = useStyles();
  const push = usePush();
  const { status } = usePushState();
  const { conversations } = useConversations();
  const quiet = !usePathname().startsWith("/chats/");
  const [answered, setAnswered] = useState(() => kv.get(ASKED) !== undefined);
  const { busy, run } = useAction();
  const talks = conversations.some(({ last }) => last?.seq !== undefined);
  const answer = () => {
    kv.set(ASKED, "1");
    setAnswered(true);
  };
  // Not waited for before it: browsers ask in the moment of the press only.
  const enable = () => void run(() => push.enable()).then(answer);
  return (
    <Sheet open={talks && quiet && !answered && (status === "undecided" || busy)} title="Be told of new messages?" onClose={answer}>
      <Text tone="muted">This device can tell you when somebody writes to you and the app is closed. What is shown, and when it is quiet, is in the settings.</Text>
      <View style={styles.buttons}>
        <Button label="Not now" kind="secondary" onPress={answer} />
        <Button label="Turn on" busy={busy} onPress={enable} />
      </View>
    </Sheet>
  );
}

const useStyles = makeStyles(() => ({
  buttons: { flexDirection: "row", flexWrap: "wrap", justifyContent: "flex-end", gap: space.s },
}));
