import { View } from "react-native";
import type { ConversationHandle, MessageView } from "@members-book/client";

import { useAction } from "@/lib/query";
import { space } from "@/theme";
import { Button, Notice, Sheet, Text } from "@/ui";

interface Props {
  conversation: ConversationHandle;
  message: MessageView | undefined;
  onClose: () => void;
  /** Absent where nothing can be written. */
  onEdit: ((message: MessageView) => void) | undefined;
}

/** What to do with a message that the server refused. */
export function FailedSheet({ conversation, message, onClose, onEdit }: Props) {
  const { busy, failure, run } = useAction();
  const act = (work: (key: string) => Promise<void>) => {
    if (message) void run(() => work(message.key)).then((well) => well && onClose());
  };
  return (
    <Sheet open={message !== undefined} title="This message was not sent" onClose={onClose}>
      <Text tone="muted" numberOfLines={4}>{message?.content}</Text>
      {message?.problem ? <Notice tone="danger" text={message.problem.message} /> : null}
      {failure ? <Notice tone="danger" text={failure.message} /> : null}
      <View style={{ gap: space.s }}>
        <Button label="Try again" icon="retry" busy={busy} onPress={() => act((key) => conversation.retry(key))} />
        {onEdit ? (
          <Button
            label="Change it" icon="pencil" kind="secondary" disabled={busy}
            onPress={() => {
              if (message) onEdit(message);
              onClose();
            }}
          />
        ) : null}
        <Button label="Delete it" icon="trash" kind="secondary" disabled={busy} onPress={() => act((key) => conversation.drop(key))} />
        <Button label="Cancel" kind="plain" onPress={onClose} />
      </View>
    </Sheet>
  );
}
