import { isWeb } from "./platform";
import { kv } from "./kv";

const KEY = "server";

/** Where the server is: on the web the page comes from it; a device is told when it signs in. */
export function serverUrl(): string | undefined {
  const built = process.env.EXPO_PUBLIC_SERVER_URL;
  if (isWeb) return built || location.origin;
  return kv.get(KEY) || built || undefined;
}

export function keepServerUrl(url: string): void {
  kv.set(KEY, url);
}

/** What somebody typed, as an address; `undefined` if it is none. `https` unless they say otherwise. */
export function parseServerUrl(text: string): string | undefined {
  const typed = text.trim();
  try {
    const url = new URL(/^https?:\/\//i.test(typed) ? typed : `https://${typed}`);
    return url.hostname ? url.origin : undefined;
  } catch {
    return undefined;
  }
}

/** Whether an address leads to the machine itself, whoever opens it: others who have it come to their own. */
export function isLoopback(address: string): boolean {
  try {
    return /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(address).hostname);
  } catch {
    return false;
  }
}
