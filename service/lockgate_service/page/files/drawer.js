// One task in full, beside the table.

import { $, $$ } from "./dom.js";
import { go, load, shownTask, taskLink } from "./navigation.js";
import { ask, toast } from "./toast.js";
import { kill, tell } from "./api.js";

const RUNNING_MILLISECONDS = 2000; // how often what a running task prints is looked at
const SOON_MILLISECONDS = 250;

let opener = null;
let timer = 0;
let openFor = shownTask();

const drawer = () => $("#task");

function again(milliseconds) {
  if (timer) return;
  timer = setTimeout(() => {
    timer = 0;
    if (shownTask() && !document.hidden) load(["task"]);
  }, milliseconds);
}

export function take(items, gone) {
  const id = shownTask();
  if (id && (items.some((one) => String(one.id) === id) || gone.includes(id))) again(SOON_MILLISECONDS);
}

/** After a load: focus goes in with the task, and back with its end. */
export function loaded(isPaused) {
  const id = shownTask();
  for (const row of $$("#tasks tr[aria-current]")) if (row.dataset.key !== id) row.removeAttribute("aria-current");
  if (id) $(`#tasks tr[data-key="${CSS.escape(id)}"]`)?.setAttribute("aria-current", "true");
  if (id !== openFor) {
    openFor = id;
    if (id) {
      drawer().scrollTop = 0;
      $("#task-title")?.focus({ preventScroll: true });
    } else opener?.isConnected && opener.focus({ preventScroll: true });
  }
  if (id && drawer().dataset.status === "running" && !isPaused) again(RUNNING_MILLISECONDS);
}

/** On pages that are not https there is no navigator.clipboard. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    drawer().append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone;
  }
}

function curl(body) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const key = "keyNeeded" in document.body.dataset ? ` -H "Authorization: Bearer $LOCKGATE_KEY"` : "";
  return `curl -s ${quoted(new URL("tasks", location.href).href)}${key} -H 'content-type: application/json' -d ${quoted(body)}`;
}

/** What is asked before it is done; to cancel what does not run yet, nothing is. */
const SURE = {
  cancel: "It is running, and will be asked to stop.",
  kill: "Its handler is ended at once, whatever it is doing.",
  delete: "It goes with its attempts and what they printed. There is no way back.",
};

const ACTS = {
  cancel: (id, isRunning) =>
    tell("POST", `tasks/${id}/cancel`, `Task ${id} ${isRunning ? "is asked to stop" : "is cancelled"}`),
  kill,
  retry: (id) => tell("POST", `tasks/${id}/retry`, `Task ${id} is in the queue again`),
  delete: (id) => tell("DELETE", `tasks/${id}`, `Task ${id} is deleted`),
};

async function act(button) {
  const name = button.dataset.do;
  if (name === "curl") {
    const isDone = await copy(curl(button.dataset.body));
    toast(isDone ? "Copied: it makes another task like this one" : "The browser does not let us copy", !isDone);
    return button.focus();
  }
  const { id, status } = drawer().dataset;
  const isRunning = status === "running";
  const title = button.textContent;
  const isAsked = name in SURE && (name !== "cancel" || isRunning);
  if (isAsked && !(await ask(`${title}?`, SURE[name], title, name !== "cancel"))) return;
  if (await ACTS[name](id, isRunning)) again(0);
}

export function start() {
  loaded(false);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href*='task=']");
    if (link && !drawer().contains(link)) opener = link;
    const button = event.target.closest?.("#task [data-do]");
    if (button) act(button);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && shownTask() && !$("dialog[open]")) go(taskLink(null));
  });
}
