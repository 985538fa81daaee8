// The table of tasks: what the stream tells of those on it, new ones on its first page, and the filter.

import { $, $$, bar, fill, piece, set } from "./dom.js";
import { age, now } from "./clock.js";
import { coarse, duration, progress } from "./text.js";
import { go, load, taskLink } from "./navigation.js";

const ROWS = 50;
const NEWEST = 50; // as many of the newest tasks the stream tells of: more at once, and some were not told
const LEAVE_MILLISECONDS = 4000;
const AGAIN_MILLISECONDS = 2000;
const TYPING_MILLISECONDS = 400;

let seen = 0n;
let held = new Set();
let timer = 0;

const section = () => $("#tasks");
const body = () => $("#tasks tbody");
const rows = () => $$("#tasks tbody tr");
const only = () => JSON.parse(section().dataset.filter);
const isNewest = () => "newest" in section().dataset && !("wrong" in section().dataset);
const isInUse = (row) => $("input", row)?.checked || row.contains(document.activeElement);
const isHolding = () => rows().some(isInUse);

export const ids = () => rows().map((row) => row.dataset.key);

/** Whether a task is among those that are asked for, as far as the stream tells. */
function matches(task, filter) {
  const isWithin = (name, time) =>
    (!filter[`${name}_after`] || Date.parse(time) >= Date.parse(filter[`${name}_after`])) &&
    (!filter[`${name}_before`] || Date.parse(time) < Date.parse(filter[`${name}_before`]));
  return (
    (!filter.status || filter.status.includes(task.status)) &&
    ["queue", "kind", "runner"].every((name) => !filter[name] || filter[name] === task[name]) &&
    (!filter.tag || task.tags.includes(filter.tag)) &&
    (!filter.error ||
      (task.status === "failed" && (task.error ?? "").toLowerCase().includes(filter.error.toLowerCase()))) &&
    (!filter.failure || task.status === "failed") &&
    isWithin("created", task.create_time) &&
    isWithin("finished", task.finish_time ?? "")
  );
}

function took(task) {
  if (task.status === "running") return { running: age(task.start_time), took: "" };
  if (task.status === "scheduled") {
    const seconds = Date.parse(task.run_at) / 1000 - now();
    return { running: "", took: seconds > 0 ? `in ${coarse(seconds)}` : "due" };
  }
  return { running: "", took: task.exec_time == null ? "" : duration(task.exec_time) };
}

function show(row, task) {
  const { part, words } = task.status === "running" ? progress(task.progress) : {};
  const hasEnded = ["failed", "scheduled", "queued"].includes(task.status);
  set(row, "data-status", task.status);
  fill(row, {
    id: task.id,
    status: task.status,
    stopping: task.status === "running" && task.cancel_requested ? "asked to stop" : "",
    kind: task.kind,
    tags: task.tags.join(", "),
    note: hasEnded ? task.error : words,
    queue: task.queue,
    attempt: task.attempt ? `${task.attempt} of ${task.max_attempts}` : "",
    created: age(task.create_time, " ago"),
    ...took(task),
    runner: task.runner,
  });
  bar(row, part);
}

function make(task) {
  const row = piece("row");
  row.dataset.key = String(task.id);
  $("th a", row).href = taskLink(task.id);
  $("input", row)?.setAttribute("aria-label", `Select task ${task.id}`);
  show(row, task);
  return row;
}

function insert(task) {
  const id = BigInt(task.id);
  const before = rows().find((row) => BigInt(row.dataset.key) < id);
  const last = rows().at(-1);
  if (!before && last && (rows().length >= ROWS || !$("#tasks [rel=next]").hidden)) return;
  body().insertBefore(make(task), before ?? null);
}

/** No more rows than a page has; what is cut off is on the next one. */
function trim() {
  const all = rows();
  let isCut = false;
  while (all.length > ROWS && !isInUse(all.at(-1))) {
    all.pop().remove();
    isCut = true;
  }
  const older = $("#tasks [rel=next]");
  if (!all.length || !(isCut || (all.length >= ROWS && !older.hidden))) return;
  const query = new URLSearchParams(location.search);
  query.delete("task");
  query.set("below", all.at(-1).dataset.key);
  query.set("trail", "0");
  older.href = `?${query}`;
  older.hidden = false;
}

function leave(row) {
  if ("leaving" in row.dataset) return;
  row.dataset.leaving = "";
  setTimeout(() => {
    if (!("leaving" in row.dataset)) return;
    if (isInUse(row) || row.matches(":hover")) {
      delete row.dataset.leaving;
      leave(row);
    } else {
      row.remove();
      dress();
    }
  }, LEAVE_MILLISECONDS);
}

function dress() {
  const isEmpty = !body().firstElementChild;
  $("#tasks table").hidden = isEmpty;
  $("#tasks .none").hidden = !isEmpty;
  const fresh = $("#fresh");
  fresh.hidden = !held.size;
  fresh.textContent = held.size === 1 ? "1 new task" : `${held.size >= NEWEST ? "50 or more" : held.size} new tasks`;
}

export function take(items, gone) {
  const filter = only();
  const newest = isNewest();
  const holding = newest && isHolding();
  const found = new Map(rows().map((row) => [row.dataset.key, row]));
  const before = seen;
  let unseen = 0;
  for (const task of [...items].reverse()) {
    const id = BigInt(task.id);
    if (id > before) unseen += 1;
    if (id > seen) seen = id;
    const row = found.get(String(task.id));
    const isWanted = matches(task, filter);
    if (row) {
      show(row, task);
      if (isWanted) delete row.dataset.leaving;
      else leave(row);
    } else if (newest && isWanted && filter.failure) {
      soon();
    } else if (newest && isWanted) {
      if (!holding) insert(task);
      else if (id > before && held.size < NEWEST) held.add(String(task.id));
    }
  }
  for (const id of gone) {
    found.get(id)?.remove();
    held.delete(id);
  }
  if (newest && !holding) {
    trim();
    if (before && unseen >= NEWEST) soon();
  }
  dress();
}

/** Asks for the list again, after a moment: what the stream has not told of is there too. */
function soon() {
  if (timer || document.hidden) return;
  timer = setTimeout(() => {
    timer = 0;
    if (!isHolding()) load(["tasks"]);
  }, AGAIN_MILLISECONDS);
}

function address(form) {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form))
    if (value.trim()) query.append(name, name === "failure" ? value : value.trim());
  const text = String(query);
  return text ? `?${text}` : "./";
}

export function loaded() {
  held = new Set();
  if (isNewest()) {
    const top = rows()[0];
    if (top && BigInt(top.dataset.key) > seen) seen = BigInt(top.dataset.key);
  }
  dress();
}

export function start() {
  loaded();
  let typing = 0;
  const apply = () => {
    clearTimeout(typing);
    const href = address($("#filter"));
    if (href !== (location.search || "./")) go(href);
  };
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "filter") return;
    event.preventDefault();
    apply();
  });
  document.addEventListener("input", (event) => {
    if (event.target.form?.id !== "filter") return;
    clearTimeout(typing);
    typing = setTimeout(apply, event.target.matches("[type=checkbox], select") ? 0 : TYPING_MILLISECONDS);
  });
  document.addEventListener("click", (event) => {
    if (event.target.id === "fresh") {
      document.activeElement?.blur();
      document.dispatchEvent(new Event("selection"));
      load(["tasks"]);
    }
  });
}
