import { useSyncExternalStore } from "react";
import { AppState } from "react-native";

import { isWeb } from "./platform";

function subscribe(listener: () => void): () => void {
  if (!isWeb) {
    const subscription = AppState.addEventListener("change", listener);
    return () => subscription.remove();
  }
  document.addEventListener("visibilitychange", listener);
  window.addEventListener("focus", listener);
  window.addEventListener("blur", listener);
  return () => {
    document.removeEventListener("visibilitychange", listener);
    window.removeEventListener("focus", listener);
    window.removeEventListener("blur", listener);
  };
}

function isForeground(): boolean {
  return isWeb ? document.visibilityState === "visible" && document.hasFocus() : AppState.currentState === "active";
}

/** Whether somebody can be looking at the app. */
export function useForeground(): boolean {
  return useSyncExternalStore(subscribe, isForeground, () => true);
}
