/** A picture as the server takes it. */
export interface Picture {
  readonly type: string;
  readonly content: Blob | ArrayBuffer;
}

export const TYPES: readonly string[] = ["image/jpeg", "image/png", "image/webp"];
/** What the server takes of a picture, in bytes. */
export const MOST = 5 * 1024 * 1024;
