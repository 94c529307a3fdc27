import { Share } from "react-native";

/** What the button says. */
export const SHARE_LABEL = "Share link";

/** Hands a text to another app. */
export async function share(text: string): Promise<string | undefined> {
  await Share.share({ message: text });
  return undefined;
}
