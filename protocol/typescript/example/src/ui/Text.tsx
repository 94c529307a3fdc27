import type { ReactNode } from "react";
import { Text as NativeText } from "react-native";
import type { TextProps } from "react-native";

import { type, useTheme } from "@/theme";
import type { Colors } from "@/theme";

export interface Props extends TextProps {
  kind?: keyof typeof type;
  tone?: keyof Colors;
  /** For the one that names a screen or a part of it. */
  level?: 1 | 2 | 3;
}

export function Text({ kind = "body", tone = "text", level, style, ...rest }: Props) {
  const { colors } = useTheme();
  const heading = level === undefined ? {} : { role: "heading" as const, "aria-level": level };
  return <NativeText {...heading} {...rest} style={[type[kind], { color: colors[tone] }, style]} />;
}

/** Only for screen readers: what others see from a colour or a place. */
export function Unseen({ children }: { children: ReactNode }) {
  return <NativeText style={unseen}>{children}</NativeText>;
}

const unseen = { position: "absolute", width: 1, height: 1, overflow: "hidden", opacity: 0 } as const;
