// Many tasks at once: those that are ticked, or all that the filter applies to.

import { $, $$, fill } from "./dom.js";
import { plural } from "./text.js";
import { ask, toast } from "./toast.js";
import { send } from "./api.js";
import { load } from "./navigation.js";

const ACTIONS = {
  cancel: { name: "Cancel", done: "cancelled or asked to stop", on: ["scheduled", "queued", "running"] },
  retry: { name: "Retry", done: "in the queue again", on: ["failed", "cancelled"] },
  delete: { name: "Delete", done: "deleted", on: ["scheduled", "queued", "succeeded", "failed", "cancelled"] },
};
const IDS_MAX = 1000;

let everything = null; // the filter, when all that match are meant
let counts = {};

const ticks = () => $$("#tasks tbody .tick input");
const ticked = () => $$("#tasks tbody tr:has(.tick input:checked)");

/** As JSON; numbers of tasks digit for digit. */
function request(action, { ids, ...rest }, dryRun, cursor) {
  const parts = JSON.stringify({ action, ...rest, dry_run: dryRun, ...(cursor && { cursor }) }).slice(1, -1);
  return `{${parts}${ids ? `,"ids":[${ids}]` : ""}}`;
}

/** Page by page, as { matched, affected }. */
export async function all(action, which, dryRun, onStep = () => {}) {
  let matched = 0;
  let affected = 0;
  let cursor;
  do {
    const found = await send("POST", "tasks/bulk", request(action, which, dryRun, cursor));
    matched += found.matched;
    affected += found.affected;
    cursor = found.next_cursor;
    onStep(dryRun ? matched : affected);
  } while (cursor);
  return { matched, affected };
}

/** Counts, asks and does it. `which`: { ids } or { filter } or { filter, all }. */
export async function through(action, which, title) {
  const { name, done } = ACTIONS[action];
  const counting = all(action, which, true).then(({ matched }) => ({
    text: matched
      ? `${plural(matched, "task", "tasks")} will be ${done}.${action === "delete" ? " There is no way back." : ""}`
      : "There is none to which this can be done.",
    yes: `${name} ${plural(matched, "task", "tasks")}`,
    disabled: !matched,
  }));
  if (!(await ask(title, counting, name, action === "delete"))) return false;
  try {
    const { affected } = await all(action, which, false, (number) =>
      toast(`${plural(number, "task", "tasks")} ${done} so far`),
    );
    toast(`${plural(affected, "task", "tasks")} ${done}`);
  } catch (error) {
    toast(`Not all done: ${error.message}`, true);
  }
  return true;
}

const filter = () => JSON.parse($("#tasks").dataset.filter);
const isEmpty = (object) => !Object.keys(object).length;
const which = () => {
  if (everything) return { filter: everything, ...(isEmpty(everything) && { all: true }) };
  const ids = ticked().map((row) => row.dataset.key);
  return { ids: ids.slice(0, IDS_MAX) };
};

export function show() {
  const bulk = $("#bulk");
  if (!bulk) return;
  const chosen = ticked();
  if (!chosen.length) everything = null;
  bulk.hidden = !chosen.length;
  const boxes = ticks();
  const box = $("#tick-all");
  box.checked = chosen.length > 0 && chosen.length === boxes.length;
  box.indeterminate = chosen.length > 0 && chosen.length < boxes.length;
  fill(bulk, { chosen: everything ? "All that match are selected" : `${chosen.length} selected` });
  const button = $("#all");
  button.hidden = Boolean(everything) || chosen.length < boxes.length;
  button.textContent = isEmpty(filter()) ? "Select all tasks" : "Select all that match the filter";
  for (const [action, { name, on }] of Object.entries(ACTIONS)) {
    const number = everything ? counts[action] : chosen.filter((row) => on.includes(row.dataset.status)).length;
    const node = $(`[data-bulk=${action}]`, bulk);
    node.textContent = number === undefined ? `${name} …` : `${name} ${number.toLocaleString("en-US")}`;
    node.disabled = !number;
  }
}

async function selectAll() {
  const mine = (everything = filter());
  counts = {};
  show();
  for (const action of Object.keys(ACTIONS)) {
    const put = (number) => {
      if (mine === everything) counts[action] = number;
      show();
    };
    await all(action, which(), true, put).catch((error) => toast(`Not counted: ${error.message}`, true));
    if (mine !== everything) return;
  }
}

function clear() {
  for (const one of ticks()) one.checked = false;
  everything = null;
  show();
}

export function start() {
  if (!$("#bulk")) return;
  document.addEventListener("change", (event) => {
    if (event.target.id === "tick-all") for (const one of ticks()) one.checked = event.target.checked;
    if (event.target.closest("#tasks table")) {
      everything = null;
      show();
    }
  });
  document.addEventListener("selection", clear);
  document.addEventListener("click", async (event) => {
    if (event.target.id === "all") selectAll();
    if (event.target.id === "none") clear();
    const action = event.target.dataset?.bulk;
    if (!action) return;
    const { name } = ACTIONS[action];
    if (await through(action, which(), everything ? `${name} all that match?` : `${name} the selected tasks?`)) {
      clear();
      load(["tasks"]);
    }
  });
}
