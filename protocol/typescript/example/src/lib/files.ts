import { File, Paths } from "expo-file-system";
import * as ImagePicker from "expo-image-picker";
import * as Sharing from "expo-sharing";

import { TYPES } from "./pictures";
import type { Picture } from "./pictures";

/** A picture that the member chooses; nothing if they choose none. */
export async function pickPicture(): Promise<Picture | undefined> {
  const result = await ImagePicker.launchImageLibraryAsync({ mediaTypes: ["images"], allowsEditing: true, aspect: [1, 1], quality: 0.9 });
  const asset = result.canceled ? undefined : result.assets[0];
  if (!asset) return undefined;
  const type = asset.mimeType && TYPES.includes(asset.mimeType) ? asset.mimeType : "image/jpeg";
  return { type, content: await new File(asset.uri).arrayBuffer() };
}

/** Gives a text to the member as a file: they choose where it goes. */
export async function saveText(name: string, text: string, type = "application/json"): Promise<void> {
  const file = new File(Paths.cache, name);
  if (file.exists) file.delete();
  file.create();
  file.write(text);
  await Sharing.shareAsync(file.uri, { mimeType: type });
  file.delete();
}
