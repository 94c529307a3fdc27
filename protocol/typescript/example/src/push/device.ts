import Constants, { ExecutionEnvironment } from "expo-constants";
import * as Device from "expo-device";
import { AppState, Platform } from "react-native";
import type { MembersBook } from "@members-book/client";
import { ExpoPush } from "@members-book/client/push";
import type { DevicePush } from "@members-book/client/push";

import { kv } from "@/lib/kv";
import { isOnScreen, openConversation } from "./opening";

/** Expo Go is an app of its own: nothing can be pushed to this one in it, and the module complains. */
function notifications() {
  if (Constants.executionEnvironment === ExecutionEnvironment.StoreClient) return undefined;
  return require("expo-notifications") as typeof import("expo-notifications");
}

/** Pushes to this app. */
export function createPush(client: MembersBook): DevicePush {
  const { eas } = (Constants.expoConfig?.extra ?? {}) as { eas?: { projectId?: string } };
  return new ExpoPush({
    client,
    platform: Platform.OS === "ios" ? "ios" : "android",
    notifications: notifications(),
    device: Device,
    projectId: process.env.EXPO_PUBLIC_PROJECT_ID || eas?.projectId || Constants.easConfig?.projectId,
    appState: AppState,
    memory: kv,
    open: openConversation,
    isOpen: isOnScreen,
  });
}
