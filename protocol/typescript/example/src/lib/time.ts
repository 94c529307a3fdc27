const LANGUAGE = "en-GB";

const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(LANGUAGE, { weekday: "long" });
const dayMonth = new Intl.DateTimeFormat(LANGUAGE, { day: "numeric", month: "long" });
const dayMonthYear = new Intl.DateTimeFormat(LANGUAGE, { day: "numeric", month: "long", year: "numeric" });
const short = new Intl.DateTimeFormat(LANGUAGE, { day: "2-digit", month: "2-digit", year: "2-digit" });
const full = new Intl.DateTimeFormat(LANGUAGE, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

/** Whether it can be shown: a formatter throws for what is none. */
function isTime(at: number): boolean {
  return Math.abs(at) <= 8.64e15;
}

/** A number that is the same for all moments of one day here. */
export function dayOf(at: number): number {
  const date = new Date(at);
  return date.getFullYear() * 10_000 + date.getMonth() * 100 + date.getDate();
}

function daysAgo(at: number, now: number): number {
  const start = (ms: number) => new Date(ms).setHours(0, 0, 0, 0);
  return Math.round((start(now) - start(at)) / 86_400_000);
}

export function timeOfDay(at: number): string {
  return isTime(at) ? clock.format(at) : "";
}

/** For the line between two days. */
export function dayName(at: number, now: number): string {
  if (!isTime(at)) return "";
  const days = daysAgo(at, now);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days > 1 && days < 7) return weekday.format(at);
  return (new Date(at).getFullYear() === new Date(now).getFullYear() ? dayMonth : dayMonthYear).format(at);
}

/** For a list: the time today, the day this week, the date before. */
export function listTime(at: number, now: number): string {
  if (!isTime(at)) return "";
  const days = daysAgo(at, now);
  if (days <= 0) return clock.format(at);
  if (days === 1) return "Yesterday";
  return days < 7 ? weekday.format(at) : short.format(at);
}

export function dateTime(at: number | string): string {
  const date = new Date(at);
  return isTime(date.getTime()) ? full.format(date) : "";
}

export function lastSeen(at: number, now: number): string {
  if (!isTime(at)) return "";
  const minutes = Math.floor((now - at) / 60_000);
  if (minutes < 1) return "last seen just now";
  if (minutes < 60) return `last seen ${minutes} min ago`;
  return daysAgo(at, now) <= 1 ? `last seen ${dayName(at, now).toLowerCase()} at ${clock.format(at)}` : `last seen ${dayName(at, now)}`;
}

export function duration(seconds: number): string {
  const days = Math.floor(seconds / 86_400);
  const hours = Math.floor((seconds % 86_400) / 3_600);
  const minutes = Math.floor((seconds % 3_600) / 60);
  if (days > 0) return `${days} d ${hours} h`;
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min`;
}
