// The counters, and the last hour minute by minute: what ended as bars, what was queued as a line.

import { $, fill, set, sync } from "./dom.js";
import { age } from "./clock.js";
import { COUNT_MAX, count, duration, grouped } from "./text.js";

const WIDTH = 720;
const HEIGHT = 120;
const TOP = 6;
const ENDS = ["succeeded", "failed", "cancelled"];
const SVG = "http://www.w3.org/2000/svg";

const make = (name) => document.createElementNS(SVG, name);
const sum = (numbers) => numbers.reduce((so, one) => so + one, 0);
let drawn = "";

function draw(snapshot) {
  const points = Object.values(snapshot.series).sort((one, other) => (one.time < other.time ? -1 : 1));
  $("#chart").hidden = !points.length;
  const text = JSON.stringify(points);
  if (!points.length || text === drawn) return;
  drawn = text;
  const most = Math.max(1, ...points.map((one) => sum(ENDS.map((name) => one[name]))));
  const deepest = Math.max(1, ...points.map((one) => one.queued));
  const hasEnded = points.some((one) => ENDS.some((name) => one[name]));
  const hasQueued = points.some((one) => one.queued);
  const step = WIDTH / points.length;
  const high = (number, of) => (number / of) * (HEIGHT - TOP);
  const svg = $("#chart svg");
  let group = $("g", svg);
  if (!group) {
    group = make("g");
    svg.append(group, make("polyline"));
  }
  const makeBar = (name) => {
    const bar = make("rect");
    bar.setAttribute("class", name);
    return bar;
  };
  const showMinute = (node, one) => {
    const x = (points.indexOf(one) * step + 1).toFixed(1);
    let top = HEIGHT;
    const ends = ENDS.filter((name) => one[name]);
    sync(node, ends, (name) => name, makeBar, (bar, name) => {
      const height = Math.max(1, high(one[name], most));
      top -= height;
      set(bar, "x", x);
      set(bar, "y", Math.max(0, top).toFixed(1));
      set(bar, "width", (step - 2).toFixed(1));
      set(bar, "height", height.toFixed(1));
    });
  };
  sync(group, points, (one) => one.time, () => make("g"), showMinute);
  const line = points.map(
    (one, index) => `${((index + 0.5) * step).toFixed(1)},${(HEIGHT - high(one.queued, deepest)).toFixed(1)}`,
  );
  set($("polyline", svg), "points", hasQueued ? line.join(" ") : "");
  const said = ENDS.map((name) => `${grouped(sum(points.map((one) => one[name])))} ${name}`).join(", ");
  set(svg, "aria-label", `The last hour by the minute: ${said}; ${grouped(deepest)} queued at most`);
  fill($("#chart"), {
    scale:
      hasEnded || hasQueued
        ? `at most ${grouped(hasEnded ? most : 0)} a minute, ${grouped(hasQueued ? deepest : 0)} queued`
        : "nothing in this hour",
  });
}

function waiting(snapshot, name) {
  const numbers = Object.values(snapshot.queues).map((one) => one[name]);
  return grouped(sum(numbers.map((one) => Math.min(one, COUNT_MAX)))) + (numbers.some((one) => one > COUNT_MAX) ? "+" : "");
}

export function show(snapshot) {
  const { running, hour, due_since: since } = snapshot.all;
  const root = $("#numbers .figures");
  const oldest = age(since);
  fill(root, {
    running: count(running),
    queued: waiting(snapshot, "queued"),
    scheduled: waiting(snapshot, "scheduled"),
    ...Object.fromEntries(ENDS.map((name) => [name, grouped(hour.ended[name])])),
    oldest,
    wait_median: duration(hour.wait.median),
    wait_p95: duration(hour.wait.p95),
    run_median: duration(hour.run.median),
    run_p95: duration(hour.run.p95),
  });
  $("[data-none]", root).hidden = Boolean(oldest);
  set($("[data-f=failed]", root).closest("a"), "data-bad", hour.ended.failed > 0);
  draw(snapshot);
}
