import { View } from "react-native";
import type { ErrorBoundaryProps } from "expo-router";

import { forget } from "@/lib/forget";
import { light, space } from "@/theme";
import { Text as NativeText, Pressable } from "react-native";

/** What is shown when the app itself is at fault. Uses nothing that may be what failed. */
export function ErrorBoundary({ error, retry }: ErrorBoundaryProps) {
  const { colors } = light;
  return (
    <View role="alert" style={{ flex: 1, alignItems: "center", justifyContent: "center", gap: space.l, padding: space.xl, backgroundColor: colors.background }}>
      <NativeText style={{ fontSize: 20, fontWeight: "600", color: colors.text }}>Something went wrong in the app</NativeText>
      <NativeText style={{ fontSize: 16, color: colors.muted, textAlign: "center", maxWidth: 420 }}>What you wrote is kept. Try again; if it happens once more, tell the club: {error.message}</NativeText>
      <Pressable role="button" onPress={() => void retry()} style={{ minHeight: 44, justifyContent: "center", paddingHorizontal: space.l, borderRadius: 10, backgroundColor: colors.primary }}>
        <NativeText style={{ color: colors.onPrimary, fontWeight: "600", fontSize: 16 }}>Try again</NativeText>
      </Pressable>
      {forget ? (
        <>
          <NativeText style={{ fontSize: 14, color: colors.muted, textAlign: "center", maxWidth: 420 }}>
            If nothing helps: forget what is kept in this browser. You sign in again, and everything comes from the club but what was not sent yet.
          </NativeText>
          <Pressable role="button" onPress={() => void forget?.()} style={{ minHeight: 44, justifyContent: "center", paddingHorizontal: space.l, borderRadius: 10, borderWidth: 1, borderColor: colors.outline }}>
            <NativeText style={{ color: colors.text, fontWeight: "600", fontSize: 16 }}>Forget what is kept here</NativeText>
          </Pressable>
        </>
      ) : null}
    </View>
  );
}
