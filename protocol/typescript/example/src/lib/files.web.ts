import { MOST, TYPES } from "./pictures";
import type { Picture } from "./pictures";

/** A picture that the member chooses; nothing if they choose none. */
export function pickPicture(): Promise<Picture | undefined> {
  return new Promise((resolve) => {
    const input = document.createElement("input");
    input.type = "file";
    input.accept = TYPES.join(",");
    input.onchange = () => {
      const file = input.files?.[0];
      resolve(file && shrunk({ type: file.type, content: file }));
    };
    input.oncancel = () => resolve(undefined);
    input.click();
  });
}

/** The sides that a picture gets which is too large, in pixels: the first that makes it small enough. */
const SIDES = [2_048, 1_280, 800] as const;

/** The same picture, small enough for the server. As it is if the browser cannot do that: what is wrong with it is said where it is sent. */
async function shrunk(picture: Picture & { content: File }): Promise<Picture> {
  if (picture.content.size <= MOST || !TYPES.includes(picture.type)) return picture;
  try {
    const image = await createImageBitmap(picture.content, { imageOrientation: "from-image" });
    for (const side of SIDES) {
      const scale = Math.min(1, side / Math.max(image.width, image.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(image.width * scale));
      canvas.height = Math.max(1, Math.round(image.height * scale));
      const context = canvas.getContext("2d");
      if (!context) break;
      // A JPEG has nothing to see through.
      context.fillStyle = "#ffffff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      const content = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
      if (content && content.size <= MOST) return { type: "image/jpeg", content };
    }
  } catch {
    // It is no picture that the browser knows.
  }
  return picture;
}

/** Gives a text to the member as a file. */
export function saveText(name: string, text: string, type = "application/json"): Promise<void> {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  return Promise.resolve();
}
