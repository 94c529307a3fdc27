import type { ReactNode } from "react";
import { KeyboardAvoidingView, Platform, ScrollView, View } from "react-native";
import { useSafeAreaInsets } from "react-native-safe-area-context";

import { webOnly } from "@/lib/platform";
import { useScreen } from "@/lib/screens";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Icon, Text } from "@/ui";

/** What the screens before signing in have around them. */
export function AuthFrame({ title, text, children }: { title: string; text: string; children: ReactNode }) {
  const styles = useStyles();
  const { colors } = useTheme();
  const { top, bottom } = useSafeAreaInsets();
  const head = useScreen(title);
  return (
    <KeyboardAvoidingView style={styles.screen} behavior={Platform.OS === "ios" ? "padding" : undefined} role="main">
      <ScrollView contentContainerStyle={[styles.content, { paddingTop: top + space.xxl, paddingBottom: bottom + space.xxl }]} keyboardShouldPersistTaps="handled">
        <View style={styles.card}>
          <View style={styles.logo}><Icon name="people" size={28} color={colors.onPrimary} /></View>
          <View ref={head} {...webOnly({ tabIndex: -1 })} style={styles.head}>
            <Text kind="display" level={1}>{title}</Text>
            <Text tone="muted">{text}</Text>
          </View>
          {children}
        </View>
      </ScrollView>
    </KeyboardAvoidingView>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  screen: { flex: 1, backgroundColor: colors.background },
  content: { flexGrow: 1, alignItems: "center", justifyContent: "center", padding: space.l },
  card: { width: "100%", maxWidth: 420, gap: space.l },
  logo: { width: 56, height: 56, borderRadius: radius.l, alignItems: "center", justifyContent: "center", backgroundColor: colors.primary },
  head: { gap: space.xs },
}));
