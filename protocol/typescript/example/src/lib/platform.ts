import { Platform } from "react-native";

export const isWeb = Platform.OS === "web";

/** Properties that react-native-web understands and the types of react-native do not have: spread into an element. */
export function webOnly(props: Readonly<Record<string, unknown>>): object {
  return isWeb ? props : {};
}

/** Whether it is likely that one writes by keys here: on the web, with a mouse or the like. */
export function hasKeyboard(): boolean {
  return isWeb && window.matchMedia("(pointer: fine)").matches;
}
