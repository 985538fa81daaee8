// The tables of queues and runners.

import { $, fill, piece, set, sync } from "./dom.js";
import { age } from "./clock.js";
import { count, duration, grouped, plural } from "./text.js";
import { ask, toast } from "./toast.js";
import { send, tell } from "./api.js";

/** The button that does one thing or undoes it; its name stays behind. */
function turn(node, act, name) {
  const button = $(`[data-act=${act === "resume" ? name : "resume"}]`, node);
  if (!button) return;
  button.dataset.act = act;
  button.firstChild.data = act === "resume" ? "Resume" : `${name[0].toUpperCase()}${name.slice(1)}`;
}

function showQueue(node, { one }) {
  const ended = ["succeeded", "failed", "cancelled"].map((name) => grouped(one.hour.ended[name]));
  set(node, "data-paused", one.paused ? "" : null);
  fill(node, {
    name: one.name,
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

function showRunner(node, { one }) {
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
  sync(
    $("#queues tbody"),
    queues.map((one) => ({ key: one.name, one })),
    () => piece("queue"),
    showQueue,
  );
  const runners = Object.values(snapshot.runners).sort((one, other) => other.session - one.session);
  sync(
    $("#runners tbody"),
    runners.map((one) => ({ key: String(one.session), one })),
    () => piece("runner"),
    showRunner,
  );
  $("#runners table").hidden = !runners.length;
  $("#runners .none").hidden = Boolean(runners.length);
}

async function purge(name) {
  const text = "All its tasks that succeeded, failed or were cancelled are deleted. There is no way back.";
  const count = Promise.all(["succeeded", "failed", "cancelled"].map((status) => ended(name, status))).then(
    (numbers) => {
      const number = numbers.reduce((so, one) => so + one, 0);
      return {
        text: `${text} These are ${plural(number, "task", "tasks")}.`,
        yes: `Purge ${plural(number, "task", "tasks")}`,
        disabled: !number,
      };
    },
  );
  if (!(await ask(`Purge queue ${name}?`, count, "Purge", true))) return;
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

async function ended(queue, status) {
  let number = 0;
  let cursor;
  do {
    const filter = { queue, status: [status] };
    const found = await send("POST", "tasks/bulk", {
      action: "delete",
      filter,
      dry_run: true,
      ...(cursor && { cursor }),
    });
    number += found.matched;
    cursor = found.next_cursor;
  } while (cursor);
  return number;
}

const ACTS = {
  queues: {
    pause: (name) => tell("POST", `queues/${encodeURIComponent(name)}/pause`, undefined, `Queue ${name} is paused`),
    resume: (name) => tell("POST", `queues/${encodeURIComponent(name)}/resume`, undefined, `Queue ${name} goes on`),
    purge,
  },
  runners: {
    drain: (name) =>
      tell("POST", `runners/${encodeURIComponent(name)}/drain`, undefined, `Runner ${name} takes no more tasks`),
    resume: (name) =>
      tell("POST", `runners/${encodeURIComponent(name)}/resume`, undefined, `Runner ${name} takes tasks again`),
  },
};

export function start() {
  for (const [section, acts] of Object.entries(ACTS))
    $(`#${section}`).addEventListener("click", (event) => {
      const button = event.target.closest("[data-act]");
      if (button) acts[button.dataset.act]($("th a", button.closest("tr")).textContent);
    });
}
