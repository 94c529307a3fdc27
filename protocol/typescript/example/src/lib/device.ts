import { Platform } from "react-native";

/** What this device is called where the member sees where they are signed in. */
export function deviceName(): string {
  if (Platform.OS === "android") return `Android (${Platform.constants.Model})`;
  if (Platform.OS === "ios") return Platform.isPad ? "iPad" : "iPhone";
  return Platform.OS;
}
