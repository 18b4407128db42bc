// Numbers, times and ids as people read them. PURE: the time and the zone come in.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A span of time in two units at most: `412 ms`, `3.2 s`, `2m 05s`, `3h 04m`, `2d 3h`. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 0) return `−${duration(-ms)}`;
  if (ms < 1) return ms === 0 ? "0 ms" : "<1 ms";
  if (ms < SECOND) return `${Math.round(ms)} ms`;
  if (ms < 9.95 * SECOND) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)}m ${two((ms % MINUTE) / SECOND)}s`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)}h ${two((ms % HOUR) / MINUTE)}m`;
  return `${count(Math.floor(ms / DAY))}d ${Math.floor((ms % DAY) / HOUR)}h`;
}

/** What is left of a wait, in whole seconds, so that it can tick: `in 2m 05s`, `due`. */
export function countdown(ms) {
  if (ms <= 0) return "due";
  const whole = Math.ceil(ms / SECOND) * SECOND;
  return whole < 10 * SECOND ? `in ${whole / SECOND} s` : `in ${duration(whole)}`;
}

/** How long ago, in one unit: `now`, `42s ago`, `5m ago`, `3h ago`, `12d ago`. */
export function ago(ms) {
  if (ms < 2 * SECOND) return "now";
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)}s ago`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)}m ago`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)}h ago`;
  return `${count(Math.floor(ms / DAY))}d ago`;
}

const two = (value) => String(Math.floor(value)).padStart(2, "0");

/** Whole numbers in groups of three: `12 345`. */
export function count(value) {
  if (!Number.isFinite(value)) return "–";
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/** A rate or a ratio with as many digits as matter: `0.04`, `3.2`, `480`. */
export function rate(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  if (value < 0.1) return value.toFixed(2);
  return value < 10 ? value.toFixed(1) : count(value);
}

/** Bytes in binary units: `512 B`, `1.5 KiB`, `64 MiB`. */
export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let left = value;
  while (left >= 1024 && at < units.length - 1) {
    left /= 1024;
    at += 1;
  }
  return `${at && left < 100 ? Number(left.toFixed(1)) : Math.round(left)} ${units[at]}`;
}

/**
 * A moment in the chosen zone: `2026-01-15 10:30:00.012`.
 *
 * `zone` is "utc" or "local"; `parts` is "date" | "time" | "full" | "ms" (full, with milliseconds).
 */
export function stamp(ms, zone, parts = "full") {
  if (!Number.isFinite(ms)) return "–";
  const at = new Date(zone === "utc" ? ms : ms - new Date(ms).getTimezoneOffset() * MINUTE);
  const [date, rest] = at.toISOString().split("T");
  if (parts === "date") return date;
  if (parts === "time") return rest.slice(0, 8);
  return `${date} ${rest.slice(0, parts === "ms" ? 12 : 8)}`;
}

/** The zone's name beside a time: `UTC`, `UTC+02:00`. */
export function zoneName(zone, ms = Date.now()) {
  const minutes = zone === "utc" ? 0 : -new Date(ms).getTimezoneOffset();
  if (!minutes) return "UTC";
  const size = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(size / 60)}:${two(size % 60)}`;
}

/** Milliseconds of an RFC 3339 time, `NaN` where there is none. */
export const millis = (text) => (text ? Date.parse(text) : NaN);

/** A run's id short enough for a row, its ends kept. */
export function shortId(id) {
  return id.length > 16 ? `${id.slice(0, 10)}…${id.slice(-4)}` : id;
}

/** JSON on one line, cut to so many characters. */
export function inline(value, most = 120) {
  const text = value === undefined ? "" : JSON.stringify(value);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** JSON over lines. */
export const pretty = (value) => (value === undefined ? "" : JSON.stringify(value, null, 2));

/** One of two words by number: `1 run`, `3 runs`. */
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** What a run's error is on one line. */
export const errorLine = (error) => (error ? `${error.type}: ${error.message}` : "");
