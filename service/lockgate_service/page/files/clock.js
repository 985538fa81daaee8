// The time by the database's clock, and the times on the page that go on counting.

import { coarse, elapsed, plainly } from "./text.js";
import { $$, write } from "./dom.js";

let ahead = 0;

export function tell(time) {
  const at = Date.parse(time);
  if (!Number.isNaN(at)) ahead = at - Date.now();
}

export const now = () => (Date.now() + ahead) / 1000;

const secondsSince = (time) => now() - Date.parse(time) / 1000;

/** As `fill` takes it; `after` makes it coarse: "5 m ago". */
export function age(time, after = "") {
  if (!time) return "";
  const seconds = secondsSince(time);
  if (Number.isNaN(seconds)) return { text: time, title: time };
  return { since: time, text: after ? coarse(seconds) : elapsed(seconds), title: plainly(time), after };
}

function tick() {
  if ("paused" in document.documentElement.dataset) return;
  for (const node of $$("time[data-since]")) {
    const { since, after = "" } = node.dataset;
    write(node, (after ? coarse : elapsed)(secondsSince(since)) + after);
  }
}

export function start() {
  tell(document.body.dataset.time);
  setInterval(() => document.hidden || tick(), 1000);
  document.addEventListener("visibilitychange", () => document.hidden || tick());
}
