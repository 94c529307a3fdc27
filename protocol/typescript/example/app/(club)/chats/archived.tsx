import { ConversationList } from "@/chat/ConversationList";
import { useWide } from "@/theme";

import Chats from "./index";

export default function Archived() {
  return useWide() ? <Chats /> : <ConversationList archived />;
}
