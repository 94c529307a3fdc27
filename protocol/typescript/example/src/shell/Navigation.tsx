import { Pressable, View } from "react-native";
import { Link, usePathname } from "expo-router";
import type { Href } from "expo-router";
import { useSafeAreaInsets } from "react-native-safe-area-context";
import { useApplications, useUnread } from "@members-book/client/react";

import { countText, useMe } from "@/lib/people";
import { isWeb, webOnly } from "@/lib/platform";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Icon, Text, Unseen } from "@/ui";
import type { IconName } from "@/ui";

interface Place {
  href: Href & string;
  label: string;
  icon: IconName;
}

const PLACES: readonly Place[] = [
  { href: "/chats", label: "Chats", icon: "chat" },
  { href: "/members", label: "People", icon: "people" },
  { href: "/meet", label: "Meet", icon: "spark" },
  { href: "/me", label: "Profile", icon: "person" },
  { href: "/settings", label: "Settings", icon: "gear" },
];
const ADMIN: Place = { href: "/admin", label: "Admin", icon: "shield" };

/** Where one can go: at the left edge of a large screen, at the lower edge of a small one. */
export function Navigation({ side }: { side: boolean }) {
  const styles = useStyles();
  const { colors } = useTheme();
  const path = usePathname();
  const { user_type } = useMe();
  const { total, more } = useUnread();
  const waiting = useApplications();
  const { bottom, top, left } = useSafeAreaInsets();
  const places = user_type === "admin" ? [...PLACES, ADMIN] : PLACES;
  return (
    <View role="navigation" aria-label="Main" style={side ? [styles.side, { paddingTop: top + space.l, paddingLeft: left }] : [styles.below, { paddingBottom: bottom }]}>
      {places.map(({ href, label, icon }) => {
        const here = path === href || path.startsWith(`${href}/`);
        const [number, noun] = href === "/chats" ? [total, "unread"] : href === ADMIN.href ? [waiting, waiting === 1 ? "application" : "applications"] : [0, ""];
        const count = number > 0 ? countText(Math.min(number, 99), (href === "/chats" && more) || number > 99) : undefined;
        return (
          // On devices the places do not pile up: back leads out of the app, not through all of them.
          <Link key={href} href={href} replace={!isWeb} asChild>
            <Pressable
              role="link" {...webOnly({ "aria-current": here ? "page" : undefined })}
              style={side ? styles.sideItem : styles.belowItem}
            >
              <View style={here ? styles.chosen : styles.icon}>
                <Icon name={icon} color={here ? colors.onSoft : colors.muted} />
                {count ? <View style={styles.badge} aria-hidden><Text kind="tiny" tone="onPrimary">{count}</Text></View> : null}
              </View>
              <Text kind="tiny" tone={here ? "text" : "muted"} numberOfLines={1} maxFontSizeMultiplier={1.4}>{label}</Text>
              {count ? <Unseen>, {count} {noun}</Unseen> : null}
            </Pressable>
          </Link>
        );
      })}
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => {
  const icon = { width: 52, height: 32, borderRadius: radius.full, alignItems: "center", justifyContent: "center" } as const;
  return {
    side: { width: 88, gap: space.s, alignItems: "stretch", backgroundColor: colors.surface, borderRightWidth: 1, borderRightColor: colors.border },
    below: { flexDirection: "row", backgroundColor: colors.surface, borderTopWidth: 1, borderTopColor: colors.border },
    sideItem: { alignItems: "center", gap: space.xxs, paddingVertical: space.s, marginHorizontal: space.xs },
    belowItem: { flex: 1, minWidth: 0, minHeight: 58, alignItems: "center", justifyContent: "center", gap: space.xxs, paddingVertical: space.xs },
    icon,
    chosen: { ...icon, backgroundColor: colors.soft },
    badge: { position: "absolute", top: -2, right: 2, minWidth: 18, height: 18, borderRadius: 9, paddingHorizontal: 4, alignItems: "center", justifyContent: "center", backgroundColor: colors.primary },
  };
});
