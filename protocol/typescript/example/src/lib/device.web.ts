/** In this order: most browsers also say that they are one of those further down. */
const BROWSERS: readonly (readonly [RegExp, string])[] = [
  [/\bEdg(e|A|iOS)?\//, "Edge"], [/\bOPR\//, "Opera"], [/\bSamsungBrowser\//, "Samsung Internet"], [/\b(Firefox|FxiOS)\//, "Firefox"],
  [/\b(Chrome|CriOS)\//, "Chrome"], [/\bSafari\//, "Safari"],
];
const SYSTEMS: readonly (readonly [RegExp, string])[] = [
  [/\biPhone\b/, "iPhone"], [/\biPad\b/, "iPad"], [/\bAndroid\b/, "Android"], [/\bWindows\b/, "Windows"], [/\bCrOS\b/, "ChromeOS"], [/\bMac OS X\b/, "Mac"], [/\bLinux\b/, "Linux"],
];

function known(names: readonly (readonly [RegExp, string])[], agent: string): string | undefined {
  return names.find(([pattern]) => pattern.test(agent))?.[1];
}

/** What this browser is called where the member sees where they are signed in: “Chrome on Windows”. */
export function deviceName(): string {
  const agent = navigator.userAgent;
  const system = known(SYSTEMS, agent);
  const browser = known(BROWSERS, agent) ?? "Browser";
  // An iPad says that it is a Mac. A Mac has no screen to touch.
  const shown = system === "Mac" && navigator.maxTouchPoints > 1 ? "iPad" : system;
  return shown === undefined ? browser : `${browser} on ${shown}`;
}
