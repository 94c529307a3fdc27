/** The icons, drawn for a square of 24 with a line of 2 and round ends. */
export const icons = {
  chat: "M21 12a8 8 0 0 1-8 8H4l2.2-3A8 8 0 1 1 21 12z",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c0-3.3 2.9-6 6.5-6s6.5 2.7 6.5 6M16 4.4a3.5 3.5 0 0 1 0 6.2M18 14.6c2.1.9 3.5 3 3.5 5.4",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5c0-3.6 3.4-6.5 7.5-6.5s7.5 2.9 7.5 6.5",
  spark: "M12 3l1.9 5.1L19 10l-5.1 1.9L12 17l-1.9-5.1L5 10l5.1-1.9zM19 16v5M16.5 18.5h5",
  gear: "M4 7h9M17 7h3M4 17h3M11 17h9M15 9a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM9 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  shield: "M12 3l8 3v6c0 4.6-3.3 7.9-8 9-4.7-1.1-8-4.4-8-9V6zM9 12l2.2 2.2L15.5 10",
  back: "M15 5l-7 7 7 7",
  forward: "M9 5l7 7-7 7",
  down: "M5 9l7 7 7-7",
  send: "M4 12l16-8-5 16-3.5-6.5zM11.5 13.5L20 4",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16.2 16.2L21 21",
  close: "M6 6l12 12M18 6L6 18",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3 2",
  check: "M5 12.5l4.5 4.5L19 7.5",
  checks: "M2 12.5L6.5 17 15 7.5M11 15.5l1.5 1.5L22 7.5",
  alert: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7.5v5.5M12 16.4v.1",
  cloudOff: "M3 3l18 18M7.5 8.2A5 5 0 0 0 7 18h10.8M10.5 5.6A6 6 0 0 1 18 10.5a3.8 3.8 0 0 1 2.9 5.7",
  retry: "M20 11a8 8 0 1 0-.7 4.5M20 5v6h-6",
  reply: "M9 6l-6 6 6 6M3 12h10a8 8 0 0 1 8 7",
  pencil: "M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19zM14 6.5l3.5 3.5",
  trash: "M4 7h16M9.5 7V4h5v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  mail: "M3 6h18v12H3zM3 7l9 7 9-7",
  phone: "M5 4h4l1.5 5-2.3 1.6a12 12 0 0 0 5.2 5.2L15 13.5l5 1.5v4a1.5 1.5 0 0 1-1.6 1.5C10.6 20 4 13.4 3.5 5.6A1.5 1.5 0 0 1 5 4z",
  briefcase: "M3 8h18v11H3zM9 8V5h6v3M3 13h18",
  building: "M5 21V4h10v17M15 9h4v12M3 21h18M8.5 8h3M8.5 12h3M8.5 16h3",
  logout: "M14 4H5v16h9M10 12h11M17 8l4 4-4 4",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  camera: "M3 8h4l2-3h6l2 3h4v11H3zM12 17a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  screen: "M3 5h18v11H3zM12 16v4M8 20h8",
  bell: "M6 10a6 6 0 0 1 12 0c0 5 2 6.5 2 6.5H4S6 15 6 10zM10 20a2.2 2.2 0 0 0 4 0",
  bellOff: "M3 3l18 18M8.2 5.4A6 6 0 0 1 18 10c0 2 .3 3.4.8 4.5M6.3 8.3A6 6 0 0 0 6 10c0 5-2 6.5-2 6.5h12.5M10 20a2.2 2.2 0 0 0 4 0",
  pin: "M9 3h6M10 3v6l-3 4v1h10v-1l-3-4V3M12 14v7",
  archive: "M3 4h18v5H3zM5 9v11h14V9M10 13h4",
  more: "M12 5.2a.6.6 0 1 0 0 .1zM12 11.7a.6.6 0 1 0 0 .1zM12 18.2a.6.6 0 1 0 0 .1z",
  plug: "M9 3v5M15 3v5M6 8h12v3a6 6 0 0 1-12 0zM12 17v4",
} as const;

export type IconName = keyof typeof icons;

export interface IconProps {
  name: IconName;
  color: string;
  size?: number;
}
