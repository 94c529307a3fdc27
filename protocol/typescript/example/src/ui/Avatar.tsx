import { useState } from "react";
import { Image, View } from "react-native";
import { useClient, usePresence } from "@members-book/client/react";
import type { MemberId } from "@members-book/client";

import { makeStyles, radius, useTheme } from "@/theme";
import { Text } from "./Text";

interface Props {
  name: string;
  photo?: string | null | undefined;
  size?: number;
}

/** Hues on which white text can be read. */
const BACKGROUNDS = ["#0b6b57", "#7a4b12", "#5b4a9e", "#9c2f4f", "#1f5f99", "#5a6420"] as const;

function initials(name: string): string {
  const words = name.trim().split(/\s+/u).filter((word) => /^[\p{L}\p{N}]/u.test(word));
  const ends = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0]];
  return ends.map((word) => [...(word ?? "?")][0] ?? "").join("").toUpperCase();
}

function background(name: string): string {
  let sum = 0;
  for (const char of name) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) % 9973;
  return BACKGROUNDS[sum % BACKGROUNDS.length] ?? BACKGROUNDS[0];
}

/** A member's picture, or their initials. Says nothing to a screen reader: the name is beside it. */
export function Avatar({ name, photo, size = 44 }: Props) {
  const { api } = useClient();
  const styles = useStyles();
  const url = api.photo(photo);
  const [broken, setBroken] = useState<string>();
  const shape = { width: size, height: size, borderRadius: radius.full };
  if (url && url !== broken) {
    return <Image source={{ uri: url }} onError={() => setBroken(url)} style={[styles.photo, shape]} aria-hidden alt="" />;
  }
  return (
    <View style={[styles.initials, shape, { backgroundColor: background(name) }]} aria-hidden>
      <Text style={[styles.letters, { fontSize: size * 0.38, lineHeight: size * 0.5 }]} allowFontScaling={false}>{initials(name)}</Text>
    </View>
  );
}

/** The dot that says that somebody is there. What it says is also in the words around it. `gone`: they are not active in the club, so nothing is said of it. */
export function PresenceDot({ member, gone = false }: { member: MemberId; gone?: boolean }) {
  const { status } = usePresence(member);
  const styles = useStyles();
  const { colors } = useTheme();
  if (gone || (status !== "online" && status !== "away")) return null;
  return <View style={[styles.dot, { backgroundColor: status === "online" ? colors.online : colors.away }]} aria-hidden />;
}

const useStyles = makeStyles(({ colors }) => ({
  photo: { backgroundColor: colors.raised },
  initials: { alignItems: "center", justifyContent: "center" },
  letters: { color: "#ffffff", fontWeight: "600" },
  dot: { position: "absolute", right: -1, bottom: -1, width: 14, height: 14, borderRadius: 7, borderWidth: 2, borderColor: colors.surface },
}));
