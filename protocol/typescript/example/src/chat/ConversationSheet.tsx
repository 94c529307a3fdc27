import { useCallback, useState } from "react";
import { View } from "react-native";
import { useConversation, useConversationSettings } from "@members-book/client/react";
import type { ConversationSettings, ConversationView } from "@members-book/client";

import { partnerOf, useName } from "@/lib/people";
import { failureOf, useAction } from "@/lib/query";
import { space } from "@/theme";
import { Button, IconButton, Notice, Sheet, useToast } from "@/ui";
import { MuteChoices, MUTE_TITLE } from "./MuteSheet";

interface Props {
  conversation: ConversationView;
  onClose: () => void;
  /** What was done is undone after the sheet was closed. */
  onUndo?: () => void;
}

/** Shown in the header of a chat: what can be done with it. Nothing before the first message. */
export function SheetButton({ info }: { info: ConversationView }) {
  const [open, setOpen] = useState(false);
  if (!info.id) return null;
  return (
    <>
      <IconButton icon="more" label="Options of this chat" onPress={() => setOpen(true)} />
      {open ? <ConversationSheet conversation={info} onClose={() => setOpen(false)} /> : null}
    </>
  );
}

/** What can be done with a conversation, on all devices of the member. */
export function ConversationSheet({ conversation, onClose, onUndo }: Props) {
  const { key, settings } = conversation;
  const name = useName(partnerOf(conversation) ?? "");
  const change = useChange(key);
  const { busy, failure, run } = useAction();
  const { toast, announce } = useToast();
  const [muting, setMuting] = useState(false);
  const set = (part: Partial<ConversationSettings>, done: () => void) => void run(() => change(part)).then((well) => {
    if (!well) return;
    onClose();
    done();
  });
  const undo = (part: Partial<ConversationSettings>) => () => {
    onUndo?.();
    change(part).catch((cause: unknown) => toast(failureOf(cause, true).message));
  };
  const { archived = false, pinned = false } = settings ?? {};
  const pin = () => set({ pinned: !pinned }, () => announce(pinned ? "Not pinned any more" : "Pinned"));
  const archive = () => set({ archived: !archived }, () => toast(archived ? "Back in the list" : "Chat archived", { label: "Undo", onPress: undo({ archived }) }));
  return (
    <Sheet open title={muting ? MUTE_TITLE : name} onClose={onClose}>
      {muting ? <MuteChoices conversationKey={key} onClose={onClose} /> : (
        <>
          {failure ? <Notice tone="danger" text={failure.message} /> : null}
          <View style={{ gap: space.s }}>
            {archived ? null : <Button label={pinned ? "Unpin" : "Pin to the top"} icon="pin" kind="secondary" disabled={busy} onPress={pin} />}
            <Button label={archived ? "Unarchive" : "Archive"} icon="archive" kind="secondary" disabled={busy} onPress={archive} />
            <Button label="Notifications" icon="bell" kind="secondary" disabled={busy} onPress={() => setMuting(true)} />
            <Button label="Cancel" kind="plain" onPress={onClose} />
          </View>
        </>
      )}
    </Sheet>
  );
}

/** Sets a part of the settings of a conversation; the others stay as they are at that moment. */
function useChange(key: string): (part: Partial<ConversationSettings>) => Promise<void> {
  const { info } = useConversation(key);
  const { configure } = useConversationSettings(key);
  return useCallback((part) => configure({ notify: "all", ...info.getSnapshot().settings, ...part }), [configure, info]);
}
