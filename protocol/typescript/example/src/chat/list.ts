import type { MessageView } from "@members-book/client";

/** What the list of messages is told; the same on devices and on the web. */
export interface ListProps {
  messages: readonly MessageView[];
  /** Where "new messages" begin. */
  freshKey: string | undefined;
  /** The other member. */
  name: string;
  hasOlder: boolean;
  loadingOlder: boolean;
  /** The beginning of what is here comes near. */
  onOlder: () => void;
  /** Whether the newest message is seen. Called as soon as that is known and at every change, and may be called more often. */
  onBottom: (there: boolean) => void;
  onFailed: (message: MessageView) => void;
  conversationKey: string;
  /** The message with this `seq` is to be answered. Absent where nothing can be written. */
  onAnswer: ((seq: number) => void) | undefined;
  /** The message with this `seq` is to be seen. */
  onShow: (seq: number) => void;
}

export interface ListHandle {
  toBottom: () => void;
  /** Goes to a message that is here. */
  toSeq: (seq: number) => void;
}
