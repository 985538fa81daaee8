// What needs somebody: hidden while nothing does.

import { $, fill, piece, set, sync } from "./dom.js";
import { now } from "./clock.js";
import { count } from "./text.js";
import { taskLink } from "./navigation.js";
import { Refused, kill, resumeQueue, send } from "./api.js";
import { through } from "./bulk.js";

const STUCK_SECONDS = 10; // asked to stop, and still there
const LOOK_MILLISECONDS = 2000; // for that, though nothing else happens
const AGAIN_MILLISECONDS = 10_000; // when more have failed
const ANYWAY_MILLISECONDS = 60_000; // others retry and delete them

let failures = null; // not known yet: what the service has painted stays
let failed = -1;
let asking = 0;
let heard = 0;
let latest = null;
const asked = new Map();

function stuck(snapshot) {
  const found = [];
  const there = new Set();
  for (const one of Object.values(snapshot.slots)) {
    if (!one.task || one.status !== "running" || !one.cancel_requested) continue;
    const id = String(one.task);
    there.add(id);
    if (!asked.has(id)) asked.set(id, now());
    if (now() - asked.get(id) < STUCK_SECONDS) continue;
    found.push({
      key: `stuck ${one.task}`,
      what: `Task ${one.task} was asked to stop and still runs`,
      detail: `${one.kind} in slot ${one.slot} of ${one.queue}`,
      link: taskLink(one.task),
      show: `Show task ${one.task}`,
      do: one.cancel_requested === "force" ? "" : `Kill task ${one.task}`,
      act: () => kill(one.task),
    });
  }
  for (const task of asked.keys()) if (!there.has(task)) asked.delete(task);
  return found;
}

function lost(snapshot) {
  return Object.values(snapshot.slots)
    .filter((one) => one.status === "abandoned" || one.status === "silent")
    .map((one) => ({
      key: `slot ${one.queue}/${one.slot}`,
      what: `The runner ${one.runner ?? ""} of slot ${one.slot} of ${one.queue} ${one.status === "abandoned" ? "is gone" : "is silent"}`,
      detail: one.task ? "Its task is taken over when the grace has passed." : "",
      link: one.task ? taskLink(one.task) : "",
      show: one.task ? `Show task ${one.task}` : "",
    }));
}

function idle(snapshot) {
  return Object.values(snapshot.queues).flatMap((queue) => {
    const { name, paused, queued, runners } = queue;
    const detail = queued ? `${count(queued)} waiting` : "";
    if (paused)
      return {
        key: `paused ${name}`,
        what: `Queue ${name} is paused`,
        detail,
        do: `Resume ${name}`,
        act: () => resumeQueue(name),
      };
    return queued && !runners ? { key: `unserved ${name}`, what: `No runner serves queue ${name}`, detail } : [];
  });
}

function listed(filter) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(filter)) for (const one of [value].flat()) query.append(name, one);
  return `?${query}`;
}

function grouped() {
  return failures.map((one) => ({
    key: `failed ${one.queue} ${one.kind} ${one.failure}`,
    what: `${count(one.tasks)} × ${one.kind} failed`,
    detail: `${one.failure || "without a word"}, in ${one.queue}`,
    link: listed(one.filter),
    show: "Show them",
    do: `Retry all ${count(one.tasks)}`,
    act: () => through("retry", { filter: one.filter }, `Retry the failed ${one.kind} tasks?`).then(() => look(true)),
  }));
}

export function show(snapshot) {
  latest = snapshot;
  if (!failures) return look();
  const items = [...lost(snapshot), ...stuck(snapshot), ...idle(snapshot), ...grouped()];
  $("#problems").hidden = !items.length;
  sync(
    $("#problems ul"),
    items,
    (one) => one.key,
    () => piece("problem"),
    (node, one) => {
      node.act = one.act;
      fill(node, { what: one.what, detail: one.detail, do: one.do ?? "" });
      const link = $("[data-show]", node);
      link.hidden = !one.link;
      set(link, "href", one.link || null);
      if (one.show && link.textContent !== one.show) link.textContent = one.show;
    },
  );
  look();
}

/** Asks which failures there are, when there are others than before, and not often. */
async function look(isNow = false) {
  const number = latest.all.hour.ended.failed;
  const isOld = failures?.length && Date.now() - heard > ANYWAY_MILLISECONDS;
  if (!isNow && (asking || (number === failed && !isOld))) return;
  failed = number;
  heard = Date.now();
  clearTimeout(asking);
  asking = setTimeout(() => {
    asking = 0;
    if (latest) look();
  }, AGAIN_MILLISECONDS);
  try {
    failures = (await send("GET", "failures?window=24h&limit=20")).items;
    show(latest);
  } catch (error) {
    failures ??= [];
    if (!(error instanceof Refused)) failed = -1;
  }
}

export const again = () => look(true);

export function start() {
  $("#problems").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    button?.closest("li").act?.();
  });
  setInterval(() => asked.size && show(latest), LOOK_MILLISECONDS);
}
