// The last hour, minute by minute: what ended as bars, what was queued as a line.

import { $, fill, set, sync } from "./dom.js";
import { grouped } from "./text.js";

const WIDTH = 720;
const HEIGHT = 120;
const TOP = 6;
const ENDS = ["succeeded", "failed", "cancelled"];
const SVG = "http://www.w3.org/2000/svg";

const make = (name) => document.createElementNS(SVG, name);
const sum = (points, name) => points.reduce((so, one) => so + one[name], 0);
let drawn = "";

export function show(snapshot) {
  const points = Object.values(snapshot.series).sort((one, other) => (one.time < other.time ? -1 : 1));
  $("#chart").hidden = !points.length;
  const text = JSON.stringify(points);
  if (!points.length || text === drawn) return;
  drawn = text;
  const most = Math.max(1, ...points.map((one) => ENDS.reduce((so, name) => so + one[name], 0)));
  const deepest = Math.max(1, ...points.map((one) => one.queued));
  const hasEnded = points.some((one) => ENDS.some((name) => one[name]));
  const hasQueued = points.some((one) => one.queued);
  const step = WIDTH / points.length;
  const high = (number, of) => (number / of) * (HEIGHT - TOP);
  const bars = points.map((one, index) => {
    let top = HEIGHT;
    const parts = ENDS.filter((name) => one[name]).map((name) => {
      const height = Math.max(1, high(one[name], most));
      top -= height;
      return { key: name, top: Math.max(0, top), height };
    });
    return { key: one.time, index, parts };
  });
  const svg = $("#chart svg");
  let group = $("g", svg);
  if (!group) {
    group = make("g");
    svg.append(group, make("polyline"));
  }
  sync(
    group,
    bars,
    () => make("g"),
    (node, { index, parts }) =>
      sync(
        node,
        parts,
        ({ key }) => {
          const rect = make("rect");
          rect.setAttribute("class", key);
          return rect;
        },
        (rect, { top, height }) => {
          set(rect, "x", (index * step + 1).toFixed(1));
          set(rect, "y", top.toFixed(1));
          set(rect, "width", (step - 2).toFixed(1));
          set(rect, "height", height.toFixed(1));
        },
      ),
  );
  const line = points.map(
    (one, index) => `${((index + 0.5) * step).toFixed(1)},${(HEIGHT - high(one.queued, deepest)).toFixed(1)}`,
  );
  set($("polyline", svg), "points", hasQueued ? line.join(" ") : "");
  const said = ENDS.map((name) => `${grouped(sum(points, name))} ${name}`).join(", ");
  set(svg, "aria-label", `The last hour by the minute: ${said}; ${grouped(deepest)} queued at most`);
  fill($("#chart"), {
    scale:
      hasEnded || hasQueued
        ? `at most ${grouped(hasEnded ? most : 0)} a minute, ${grouped(hasQueued ? deepest : 0)} queued`
        : "nothing in this hour",
  });
}
