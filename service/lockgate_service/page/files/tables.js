// The tables of queues and runners.

import { $, fill, piece, set, sync } from "./dom.js";
import { age } from "./clock.js";
import { count, duration, grouped, plural } from "./text.js";
import { ask, toast } from "./toast.js";
import { resumeQueue, send, tell } from "./api.js";
import { all } from "./bulk.js";

const ENDS = ["succeeded", "failed", "cancelled"];

/** The button that does one thing or undoes it; its name stays behind. */
function turn(node, act, name) {
  const button = $(`[data-act=${act === "resume" ? name : "resume"}]`, node);
  if (!button) return;
  button.dataset.act = act;
  button.firstChild.data = act === "resume" ? "Resume" : `${name[0].toUpperCase()}${name.slice(1)}`;
}

function showQueue(node, one) {
  const ended = ENDS.map((name) => grouped(one.hour.ended[name]));
  set(node, "data-paused", one.paused);
  fill(node, {
    key: one.name,
    load: `${one.running} of ${one.slots}`,
    queued: count(one.queued),
    scheduled: count(one.scheduled),
    oldest: age(one.due_since),
    ended: ended.join(" / "),
    runners: one.runners,
    grace: duration(one.grace),
    flag: one.paused ? "paused" : "",
  });
  $("th a", node).href = `?queue=${encodeURIComponent(one.name)}`;
  turn(node, one.paused ? "resume" : "pause", "pause");
}

function showRunner(node, one) {
  fill(node, {
    runner: one.runner,
    load: `${one.running} of ${one.concurrency}`,
    queues: one.queues ? one.queues.join(", ") : "all",
    place: `${one.host}, process ${one.pid}`,
    since: age(one.since, " ago"),
    version: one.version,
    flag: one.draining ? "draining" : "",
  });
  $("th a", node).href = `?runner=${encodeURIComponent(one.runner)}`;
  turn(node, one.draining ? "resume" : "drain", "drain");
}

export function show(snapshot) {
  const queues = Object.values(snapshot.queues).sort((one, other) => (one.name < other.name ? -1 : 1));
  const runners = Object.values(snapshot.runners).sort((one, other) => other.session - one.session);
  sync($("#queues tbody"), queues, (one) => one.name, () => piece("queue"), showQueue);
  sync($("#runners tbody"), runners, (one) => one.session, () => piece("runner"), showRunner);
  $("#runners table").hidden = !runners.length;
  $("#runners .none").hidden = Boolean(runners.length);
}

async function purge(name) {
  const text = "All its tasks that succeeded, failed or were cancelled are deleted. There is no way back.";
  const counting = ENDS.map((status) => all("delete", { filter: { queue: name, status: [status] } }, true));
  const counted = Promise.all(counting).then((found) => {
    const number = found.reduce((so, one) => so + one.matched, 0);
    const tasks = plural(number, "task", "tasks");
    return { text: `${text} These are ${tasks}.`, yes: `Purge ${tasks}`, disabled: !number };
  });
  if (!(await ask(`Purge queue ${name}?`, counted, "Purge", true))) return;
  try {
    let removed = 0;
    let more = true;
    while (more) {
      const found = await send("POST", `queues/${encodeURIComponent(name)}/purge`);
      removed += found.removed;
      more = found.more && found.removed > 0;
      toast(`${plural(removed, "task", "tasks")} deleted${more ? " so far" : ""}`);
    }
  } catch (error) {
    toast(`Not all done: ${error.message}`, true);
  }
}

const ACTS = {
  queues: {
    pause: (name) => tell("POST", `queues/${encodeURIComponent(name)}/pause`, `Queue ${name} is paused`),
    resume: resumeQueue,
    purge,
  },
  runners: {
    drain: (name) => tell("POST", `runners/${encodeURIComponent(name)}/drain`, `Runner ${name} takes no more tasks`),
    resume: (name) => tell("POST", `runners/${encodeURIComponent(name)}/resume`, `Runner ${name} takes tasks again`),
  },
};

export function start() {
  for (const [section, acts] of Object.entries(ACTS))
    $(`#${section}`).addEventListener("click", (event) => {
      const button = event.target.closest("[data-act]");
      if (button) acts[button.dataset.act]($("th a", button.closest("tr")).textContent);
    });
}
