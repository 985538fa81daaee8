// The strip: a box for each slot of each queue, and who stands by.

import { $, bar, fill, piece, set, sync, write } from "./dom.js";
import { age } from "./clock.js";
import { count, plural, progress } from "./text.js";
import { taskLink } from "./navigation.js";

const DENSE = 24;
const NAMES_MAX = 6;
const SAYS = {
  free: "free",
  held: "ready",
  running: "",
  abandoned: "runner gone: waits out its grace",
  silent: "runner silent: waits out its grace",
};

function box(one, slots) {
  const stops = Boolean(one.task && one.status === "running" && one.cancel_requested);
  const above = one.slot > slots;
  const says = stops ? "asked to stop" : SAYS[one.status] || (one.task && above ? "goes when this ends" : "");
  const { part, words } = progress(one.progress);
  return {
    key: `${one.queue}/${one.slot}`,
    slot: one.slot,
    status: stops ? "stopping" : one.status,
    above,
    says,
    kind: one.kind,
    task: one.task,
    age: one.task ? age(one.start_time) : "",
    part,
    words,
    runner: one.runner,
  };
}

function showState(node, one) {
  set(node, "data-status", one.status);
  set(node, "data-above", one.above);
  return one.task ? taskLink(one.task) : null;
}

function showBox(node, one) {
  const link = $("a", node);
  set(link, "href", showState(node, one));
  link.hidden = !one.task;
  fill(node, one);
  bar(node, one.part);
}

function showCell(node, one) {
  const link = $("a", node);
  set(link, "href", showState(node, one));
  set(link, "title", one.task ? `${one.kind} ${one.task}, ${one.runner ?? ""}` : one.says);
  write(link, String(one.slot));
}

function names(queue, snapshot, boxes) {
  const holders = new Set(boxes.map((one) => one.runner));
  const held = {};
  for (const { runner } of Object.values(snapshot.slots)) if (runner) held[runner] = (held[runner] ?? 0) + 1;
  return Object.values(snapshot.runners)
    .filter((one) => !one.draining && !holders.has(one.runner) && (held[one.runner] ?? 0) < one.concurrency)
    .filter((one) => !one.queues || one.queues.includes(queue.name))
    .map((one) => one.runner)
    .slice(0, queue.standbys);
}

/** Who could take what waits, in words. */
function standingBy(queue, boxes) {
  if (queue.standbys) return `${plural(queue.standbys, "runner stands", "runners stand")} by`;
  const isHeld = boxes.some((one) => one.status === "held");
  return queue.queued && !queue.paused && queue.running < queue.slots && !isHeld ? "no runner has room" : "";
}

function showBand(node, queue, snapshot, slots) {
  const boxes = slots.map((one) => box(one, queue.slots));
  const standing = names(queue, snapshot, boxes);
  const isDense = boxes.length > DENSE;
  const oldest = age(queue.due_since);
  set(node, "data-full", queue.running >= queue.slots);
  set(node, "data-paused", queue.paused);
  const head = $("header", node);
  fill(head, {
    key: queue.name,
    load: `${queue.running} of ${queue.slots}`,
    standing: standingBy(queue, boxes),
    waiting: queue.queued ? `${count(queue.queued)} waiting` : "nothing waits",
    oldest,
    flag: queue.paused ? "paused" : "",
  });
  $(".since", head).hidden = !oldest;
  set($("h3 a", head), "href", `?queue=${encodeURIComponent(queue.name)}`);
  const input = $("input", head);
  if (input && input !== document.activeElement && !("pending" in input.dataset)) input.value = queue.slots;
  const list = $(".boxes", node);
  if (isDense !== "dense" in node.dataset) {
    set(node, "data-dense", isDense);
    list.replaceChildren();
  }
  sync(list, boxes, (one) => one.key, () => piece(isDense ? "cell" : "slot"), isDense ? showCell : showBox);
  const aside = $(".standbys", node);
  aside.hidden = !standing.length;
  const shown = standing.slice(0, NAMES_MAX);
  if (standing.length > NAMES_MAX) shown.push(`+${standing.length - NAMES_MAX}`);
  sync($("ul", aside), shown, (name) => name, () => document.createElement("li"), write);
}

export function show(snapshot) {
  const byQueue = new Map(Object.keys(snapshot.queues).map((name) => [name, []]));
  for (const one of Object.values(snapshot.slots)) byQueue.get(one.queue)?.push(one);
  for (const slots of byQueue.values()) slots.sort((one, other) => one.slot - other.slot);
  const queues = Object.values(snapshot.queues).sort((one, other) => (one.name < other.name ? -1 : 1));
  sync(
    $("#slots .bands"),
    queues,
    (queue) => queue.name,
    () => piece("band"),
    (node, queue) => showBand(node, queue, snapshot, byQueue.get(queue.name)),
  );
}

/** Calls `change(queue, slots)` a moment after the last step; it gives the number that is right then. */
export function start(change) {
  const timers = new Map();
  const begin = (form, slots, milliseconds) => {
    const input = form.elements.slots;
    const queue = form.closest(".band").dataset.key;
    if (!Number.isInteger(slots) || slots < 0 || slots > 1000) return input.reportValidity();
    input.value = slots;
    input.dataset.pending = "";
    clearTimeout(timers.get(queue));
    timers.set(
      queue,
      setTimeout(async () => {
        timers.delete(queue);
        const right = await change(queue, slots);
        if (timers.has(queue)) return;
        delete input.dataset.pending;
        input.value = right;
      }, milliseconds),
    );
  };
  $("#slots").addEventListener("click", (event) => {
    const button = event.target.closest("[data-step]");
    if (button) begin(button.form, Number(button.form.elements.slots.value) + Number(button.dataset.step), 500);
  });
  $("#slots").addEventListener("change", (event) => begin(event.target.form, event.target.valueAsNumber, 0));
  $("#slots").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(event.target, event.target.elements.slots.valueAsNumber, 0);
  });
}
