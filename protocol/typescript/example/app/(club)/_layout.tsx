import { View } from "react-native";
import { Slot, Stack, usePathname } from "expo-router";

import { isWeb } from "@/lib/platform";
import { UnkeptProvider } from "@/account/unkept";
import { VerifyBanner } from "@/account/VerifyBanner";
import { AskForPush } from "@/push/AskForPush";
import { useOpening } from "@/push/opening";
import { ConnectionBanner } from "@/shell/Banner";
import { useFreshRecord, useTitle } from "@/shell/keeping";
import { Navigation } from "@/shell/Navigation";
import { useWide } from "@/theme";

/** Screens that need all of a small screen: one conversation, one member. */
const DEEP = /^\/(chats|members)\/(?!archived$)./;

/** Where one is after signing in. */
export const unstable_settings = { initialRouteName: "chats", anchor: "chats" };

export default function ClubLayout() {
  const wide = useWide();
  useFreshRecord();
  useTitle();
  useOpening();
  const deep = DEEP.test(usePathname());
  return (
    <View style={{ flex: 1, flexDirection: wide ? "row" : "column" }}>
      {wide ? <Navigation side /> : null}
      <View style={{ flex: 1, minWidth: 0, minHeight: 0 }}>
        <ConnectionBanner />
        <VerifyBanner />
        <View style={{ flex: 1, minHeight: 0 }} role="main">
          {/* On the web the browser has the history, and only what is seen is in the page. */}
          <UnkeptProvider>{isWeb ? <Slot /> : <Stack screenOptions={{ headerShown: false }} />}</UnkeptProvider>
        </View>
      </View>
      {wide || deep ? null : <Navigation side={false} />}
      <AskForPush />
    </View>
  );
}
