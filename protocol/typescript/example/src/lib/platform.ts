import { Platform } from "react-native";

export const isWeb = Platform.OS === "web";

/** Properties that react-native-web understands and the types of react-native do not have: spread into an element. */
export function webOnly(props: Readonly<Record<string, unknown>>): object {
  return isWeb ? props : {};
}
