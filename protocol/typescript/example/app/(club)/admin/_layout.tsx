import { useCallback } from "react";
import { Pressable, View } from "react-native";
import { Link, Redirect, Slot, useFocusEffect, usePathname, useRouter } from "expo-router";
import { useApplications } from "@members-book/client/react";

import { useMe } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { useQuery } from "@/lib/query";
import { useAccount } from "@/lib/rest";
import { makeStyles, space, TARGET } from "@/theme";
import { Empty, Header, Loading, Text } from "@/ui";

const PARTS = [
  { href: "/admin", label: "Members" }, { href: "/admin/applications", label: "Applications" }, { href: "/admin/invitations", label: "Invitations" },
  { href: "/admin/server", label: "Server" }, { href: "/admin/audit", label: "Audit log" },
] as const;

export default function AdminLayout() {
  const styles = useStyles();
  const path = usePathname();
  const { user_type } = useMe();
  const waiting = useApplications();
  if (user_type !== "admin") return <Redirect href="/chats" />;
  return (
    <View style={styles.screen}>
      <Header title="Administration" name={PARTS.find(({ href }) => href === path)?.label} />
      <View style={styles.parts} role="navigation" aria-label="Administration">
        {PARTS.map(({ href, label }) => {
          const here = path === href;
          const words = href === "/admin/applications" && waiting > 0 ? `${label} (${waiting})` : label;
          return (
            <Link key={href} href={href} replace asChild>
              <Pressable role="link" aria-label={words} {...webOnly({ "aria-current": here ? "page" : undefined })} style={here ? styles.here : styles.part}>
                <Text kind="label" tone={here ? "primary" : "muted"}>{words}</Text>
              </Pressable>
            </Link>
          );
        })}
      </View>
      <Guarded />
    </View>
  );
}

/** What is administered; where the club demands a second factor and there is none, the way to it. */
function Guarded() {
  const router = useRouter();
  const account = useAccount();
  const { data, failure, reload } = useQuery("second factor", () => account.secondFactor());
  // It may have been turned on since.
  useFocusEffect(useCallback(() => reload(), [reload]));
  if (!data && !failure) return <Loading />;
  if (!data?.required || data.enabled) return <Slot />;
  return (
    <Empty
      icon="shield" title="A second factor is needed" text="The club demands one of its administrators. It takes a minute, and an authenticator app on your phone."
      action={{ label: "Turn it on", onPress: () => router.push("/second-factor") }}
    />
  );
}

const useStyles = makeStyles(({ colors }) => {
  const part = { minHeight: TARGET, justifyContent: "center", paddingHorizontal: space.m, borderBottomWidth: 3, borderBottomColor: "transparent" } as const;
  return {
    screen: { flex: 1, minHeight: 0, backgroundColor: colors.background },
    parts: { flexDirection: "row", flexWrap: "wrap", paddingHorizontal: space.xs, backgroundColor: colors.surface, borderBottomWidth: 1, borderBottomColor: colors.border },
    part,
    here: { ...part, borderBottomColor: colors.primary },
  };
});
