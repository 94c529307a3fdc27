import NetInfo from "@react-native-community/netinfo";
import { openDatabaseAsync } from "expo-sqlite";
import * as SecureStore from "expo-secure-store";
import { AppState, Platform } from "react-native";
import { createExpoClient } from "@members-book/client/expo";
import type { MembersBook } from "@members-book/client";

import { deviceName } from "./device";

/** The client of a device. */
export function createClient(url: string): Promise<MembersBook> {
  const { host } = new URL(url);
  return Promise.resolve(createExpoClient({
    url,
    platform: Platform.OS === "ios" ? "ios" : "android",
    deviceName: deviceName(),
    // One file for each server: what was not sent to one is not sent to another.
    sqlite: () => openDatabaseAsync(`members-book-${host.replace(/[^a-z0-9.-]/gi, "_")}.db`),
    secureStore: SecureStore,
    appState: AppState,
    netInfo: NetInfo,
  }));
}
