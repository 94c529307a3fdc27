import { TYPES } from "./pictures";
import type { Picture } from "./pictures";

/** A picture that the member chooses; nothing if they choose none. */
export function pickPicture(): Promise<Picture | undefined> {
  return new Promise((resolve) => {
    const input = document.createElement("input");
    input.type = "file";
    input.accept = TYPES.join(",");
    input.onchange = () => {
      const file = input.files?.[0];
      resolve(file && { type: file.type, content: file });
    };
    input.oncancel = () => resolve(undefined);
    input.click();
  });
}

/** Gives a text to the member as a file. */
export function saveText(name: string, text: string): Promise<void> {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  return Promise.resolve();
}
