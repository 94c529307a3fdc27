import { createContext, useCallback, useContext, useEffect, useMemo, useState } from "react";
import type { ReactNode } from "react";
import { Platform, StyleSheet, useColorScheme, useWindowDimensions } from "react-native";

import { kv } from "@/lib/kv";
import { dark, light, WIDE } from "./tokens";
import type { Theme } from "./tokens";

export * from "./tokens";

/** What the member has chosen: `system` follows the device. */
export type Appearance = "system" | "light" | "dark";

interface ThemeState {
  theme: Theme;
  appearance: Appearance;
  setAppearance: (appearance: Appearance) => void;
}

const ThemeContext = createContext<ThemeState | undefined>(undefined);
const KEY = "appearance";

function stored(): Appearance {
  const value = kv.get(KEY);
  return value === "light" || value === "dark" ? value : "system";
}

export function ThemeProvider({ children }: { children: ReactNode }) {
  const system = useColorScheme();
  const [appearance, keep] = useState(stored);
  const theme = (appearance === "system" ? system : appearance) === "dark" ? dark : light;

  useEffect(() => {
    if (Platform.OS === "web") document.documentElement.dataset["theme"] = theme.name;
  }, [theme]);

  const setAppearance = useCallback((next: Appearance) => {
    keep(next);
    kv.set(KEY, next === "system" ? null : next);
  }, []);

  const value = useMemo(() => ({ theme, appearance, setAppearance }), [theme, appearance, setAppearance]);
  return <ThemeContext.Provider value={value}>{children}</ThemeContext.Provider>;
}

export function useThemeState(): ThemeState {
  const state = useContext(ThemeContext);
  if (!state) throw new Error("useTheme: there is no <ThemeProvider> around this component");
  return state;
}

export function useTheme(): Theme {
  return useThemeState().theme;
}

/** Style sheets that are made once for each theme. */
export function makeStyles<T extends StyleSheet.NamedStyles<T>>(create: (theme: Theme) => T & StyleSheet.NamedStyles<T>): () => T {
  const made = new Map<Theme, T>();
  return () => {
    const theme = useTheme();
    let styles = made.get(theme);
    if (!styles) made.set(theme, (styles = StyleSheet.create(create(theme))));
    return styles;
  };
}

/** Whether there is room for two panes. */
export function useWide(): boolean {
  return useWindowDimensions().width >= WIDE;
}
