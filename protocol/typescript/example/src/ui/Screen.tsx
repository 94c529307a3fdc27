import type { ReactNode } from "react";
import { ScrollView, View } from "react-native";
import { useRouter } from "expo-router";
import type { Href } from "expo-router";
import { useSafeAreaInsets } from "react-native-safe-area-context";

import { webOnly } from "@/lib/platform";
import { useScreen } from "@/lib/screens";
import { makeStyles, space } from "@/theme";
import { IconButton } from "./Button";
import { Text } from "./Text";

interface HeaderProps {
  title: ReactNode;
  /** What the screen is called, if not as its title says. */
  name?: string | undefined;
  /** Where to go when there is nothing to go back to. */
  back?: Href | undefined;
  children?: ReactNode;
}

/** The bar at the top of a screen. */
export function Header({ title, name = typeof title === "string" ? title : undefined, back, children }: HeaderProps) {
  const styles = useStyles();
  const head = useScreen(name);
  const router = useRouter();
  const { top } = useSafeAreaInsets();
  return (
    <View style={[styles.header, { paddingTop: top + space.s }, back === undefined && styles.indent]}>
      {back === undefined ? null : (
        <IconButton icon="back" label="Back" onPress={() => (router.canGoBack() ? router.back() : router.replace(back))} />
      )}
      <View ref={head} {...webOnly({ tabIndex: -1 })} style={styles.title}>{typeof title === "string" ? <Text kind="title" level={1} numberOfLines={1}>{title}</Text> : title}</View>
      {children}
    </View>
  );
}

/** A screen that scrolls, as wide as text may be. */
export function ScrollScreen({ title, name, back, actions, children }: HeaderProps & { title: string; actions?: ReactNode; children: ReactNode }) {
  const styles = useStyles();
  const { bottom } = useSafeAreaInsets();
  return (
    <View style={styles.screen}>
      <Header title={title} name={name} back={back}>{actions}</Header>
      <ScrollView style={styles.scroll} contentContainerStyle={[styles.content, { paddingBottom: bottom + space.xxl }]} keyboardShouldPersistTaps="handled" {...webOnly({ tabIndex: -1 })}>
        <View style={styles.column}>{children}</View>
      </ScrollView>
    </View>
  );
}

/** What belongs together, with its name. */
export function Section({ title, text, children }: { title?: string; text?: string; children: ReactNode }) {
  const styles = useStyles();
  return (
    <View style={styles.section}>
      {title === undefined ? null : <Text kind="heading" level={2}>{title}</Text>}
      {text === undefined ? null : <Text kind="small" tone="muted">{text}</Text>}
      {children}
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  screen: { flex: 1, backgroundColor: colors.background },
  header: {
    flexDirection: "row", alignItems: "center", gap: space.s, minHeight: 60, paddingHorizontal: space.s, paddingBottom: space.s,
    backgroundColor: colors.surface, borderBottomWidth: 1, borderBottomColor: colors.border,
  },
  indent: { paddingLeft: space.l },
  title: { flex: 1, minWidth: 0 },
  scroll: { flex: 1 },
  content: { alignItems: "center", padding: space.l },
  column: { width: "100%", maxWidth: 640, gap: space.l },
  section: { gap: space.m, padding: space.l, borderRadius: 16, backgroundColor: colors.surface, borderWidth: 1, borderColor: colors.border },
}));
