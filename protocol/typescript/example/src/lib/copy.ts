import { Share } from "react-native";

/** Gives a text to the member, who chooses where it goes. False if that did not work. */
export async function copy(text: string): Promise<boolean> {
  return Share.share({ message: text }).then(() => true, () => false);
}
