import { Stack } from "expo-router";
import { StatusBar } from "expo-status-bar";
import { View } from "react-native";
import { SafeAreaProvider } from "react-native-safe-area-context";
import { useSession } from "@members-book/client/react";

import { ServerProvider } from "@/lib/server-context";
import { ServerScreen } from "@/shell/ServerField";
import { ThemeProvider, useTheme } from "@/theme";
import { ConfirmProvider, Loading, ToastProvider } from "@/ui";

export { ErrorBoundary } from "@/shell/ErrorBoundary";

export default function RootLayout() {
  return (
    <SafeAreaProvider>
      <ThemeProvider>
        <Background>
          <ToastProvider>
            <ConfirmProvider>
              <ServerProvider welcome={<ServerScreen />}>
                <Gate />
              </ServerProvider>
            </ConfirmProvider>
          </ToastProvider>
        </Background>
      </ThemeProvider>
    </SafeAreaProvider>
  );
}

function Background({ children }: { children: React.ReactNode }) {
  const { name, colors } = useTheme();
  return (
    <View style={{ flex: 1, backgroundColor: colors.background }}>
      <StatusBar style={name === "dark" ? "light" : "dark"} />
      {children}
    </View>
  );
}

function Gate() {
  const { status } = useSession();
  if (status === "loading") return <Loading />;
  return (
    <Stack screenOptions={{ headerShown: false, animation: "none", contentStyle: { backgroundColor: "transparent" } }}>
      <Stack.Protected guard={status === "signed_in"}>
        <Stack.Screen name="(club)" />
      </Stack.Protected>
      <Stack.Protected guard={status === "signed_out"}>
        <Stack.Screen name="(auth)" />
      </Stack.Protected>
    </Stack>
  );
}
