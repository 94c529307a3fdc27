import { icons } from "./icons";
import type { IconProps } from "./icons";

/** Says nothing to a screen reader: what it stands for is said by what it is in. */
export function Icon({ name, color, size = 22 }: IconProps) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="none" aria-hidden="true" focusable="false">
      <path d={icons[name]} stroke={color} strokeWidth={2} strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
