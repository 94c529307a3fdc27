/** Every colour of the app. Text on the surface that it is meant for has a contrast of at least 4.5 : 1. */
export interface Colors {
  /** Behind everything. */
  background: string;
  /** Cards, lists, bars. */
  surface: string;
  /** What lies on a surface and is not pressed. */
  raised: string;
  border: string;
  /** Borders that say where a field or button is: 3 : 1. */
  outline: string;
  text: string;
  muted: string;
  primary: string;
  onPrimary: string;
  /** What is selected. */
  soft: string;
  onSoft: string;
  /** Bubbles of others. */
  other: string;
  own: string;
  onOwn: string;
  onOwnMuted: string;
  danger: string;
  onDanger: string;
  dangerSoft: string;
  warnSoft: string;
  onWarn: string;
  online: string;
  away: string;
  scrim: string;
}

export interface Theme {
  readonly name: "light" | "dark";
  readonly colors: Readonly<Colors>;
}

export const light: Theme = {
  name: "light",
  colors: {
    background: "#f6f5f2", surface: "#ffffff", raised: "#efede8", border: "#dedbd3", outline: "#82807a", text: "#1b1d1f", muted: "#585d63",
    primary: "#0b6b57", onPrimary: "#ffffff", soft: "#dcefe9", onSoft: "#0a5545",
    other: "#ffffff", own: "#0b6b57", onOwn: "#ffffff", onOwnMuted: "#d3ece5",
    danger: "#b3261e", onDanger: "#ffffff", dangerSoft: "#fbe8e6", warnSoft: "#fff1cc", onWarn: "#614400",
    online: "#1d8a4c", away: "#b26a00", scrim: "rgba(10, 14, 15, 0.5)",
  },
};

export const dark: Theme = {
  name: "dark",
  colors: {
    background: "#101314", surface: "#181c1e", raised: "#252b2e", border: "#30383b", outline: "#7c888c", text: "#eceff0", muted: "#a8b2b5",
    primary: "#62cdb3", onPrimary: "#05231c", soft: "#17392f", onSoft: "#9be5d1",
    other: "#262c2f", own: "#0e5646", onOwn: "#f4fffb", onOwnMuted: "#bfe3d9",
    danger: "#ff9a90", onDanger: "#3a0906", dangerSoft: "#3d1c1a", warnSoft: "#3d3113", onWarn: "#ffdf94",
    online: "#4cc884", away: "#f0b04a", scrim: "rgba(0, 0, 0, 0.65)",
  },
};

/** Distances, in points: always one of these. */
export const space = { xxs: 2, xs: 4, s: 8, m: 12, l: 16, xl: 24, xxl: 32, xxxl: 48 } as const;

export const radius = { s: 6, m: 10, l: 16, full: 999 } as const;

/** The type scale. */
export const type = {
  display: { fontSize: 30, lineHeight: 36, fontWeight: "700" },
  title: { fontSize: 22, lineHeight: 28, fontWeight: "700" },
  heading: { fontSize: 17, lineHeight: 24, fontWeight: "600" },
  body: { fontSize: 16, lineHeight: 22, fontWeight: "400" },
  strong: { fontSize: 16, lineHeight: 22, fontWeight: "600" },
  small: { fontSize: 14, lineHeight: 20, fontWeight: "400" },
  label: { fontSize: 14, lineHeight: 20, fontWeight: "600" },
  tiny: { fontSize: 12, lineHeight: 16, fontWeight: "500" },
} as const;

/** From this width on there are two panes. */
export const WIDE = 900;

/** The least height and width of what is pressed. */
export const TARGET = 44;
