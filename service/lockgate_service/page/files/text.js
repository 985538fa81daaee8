// How numbers and times are written: as service/page/text.py does it for the first paint.

export const COUNT_MAX = 10_000;
const NOTHING = "–";

export const grouped = (number) => Number(number).toLocaleString("en-US");

export const count = (number) =>
  number == null ? NOTHING : number === COUNT_MAX + 1 ? `${grouped(COUNT_MAX)}+` : grouped(number);

export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

/** Of something that is over: 12 ms, 4.2 s, 1 m 05 s. */
export function duration(seconds) {
  if (seconds == null) return NOTHING;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 9.95 ? `${seconds.toFixed(1)} s` : elapsed(Math.round(seconds));
}

/** Of something that goes on: 4 s, 1 m 05 s, 2 h 10 m, 3 d 04 h. */
export function elapsed(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  if (whole >= 86400) return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} m`;
  if (whole >= 60) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  return `${whole} s`;
}

/** In one unit: 4 s, 5 m, 2 h, 3 d. */
export function coarse(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole >= 86400) return `${Math.floor(whole / 86400)} d`;
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h`;
  return whole >= 60 ? `${Math.floor(whole / 60)} m` : `${whole} s`;
}

export const plainly = (time) => `${time.slice(0, 10)} ${time.slice(11, 19)} UTC`;

const short = (text) => (text.length <= 60 ? text : `${text.slice(0, 59)}…`);
const percent = (part) => `${Math.round(part * 100)}%`;

/** Whatever a handler has reported: which part is done, if it says so, and in words. */
export function progress(value) {
  if (value == null) return {};
  if (typeof value === "object" && typeof value.done === "number" && value.total > 0)
    return {
      part: Math.min(1, Math.max(0, value.done / value.total)),
      words: `${grouped(value.done)} of ${grouped(value.total)}`,
    };
  if (typeof value === "number" && value >= 0 && value <= 1) return { part: value, words: percent(value) };
  if (typeof value === "number" && value > 1 && value <= 100) return { part: value / 100, words: `${value} %` };
  return { words: short(typeof value === "string" ? value : JSON.stringify(value)) };
}
