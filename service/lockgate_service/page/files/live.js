// The one stream of events: opened while somebody looks, closed while nobody does, and opened again whatever happens.

import { $, fill } from "./dom.js";
import { merge, parse } from "./json.js";
import { elapsed } from "./text.js";
import * as clock from "./clock.js";

const AGAIN_SECONDS = [1, 2, 5, 10];
const SILENT_SECONDS = 60; // without a word: the stream may be dead, and nobody has told us

export const snapshot = {};
const listeners = [];
let source = null;
let state = "connecting";
let heard = Date.now();
let tries = 0;
let timer = 0;
let isPaused = false;
let wasAway = false;
let followed = () => [];

const SAYS = {
  connecting: "connecting",
  live: "live",
  reconnecting: "connection lost, reconnecting",
  away: "the database is away",
  paused: "paused",
};

/** `onScene` after every change of the snapshot, `onTasks` for tasks that changed, `onBack` after something was missed. */
export const listen = (listener) => listeners.push(listener);

const tellAll = (name, ...values) => listeners.forEach((one) => one[name]?.(...values));

function show(next = state) {
  state = next;
  const node = $("#state");
  node.dataset.state = state;
  const seconds = (Date.now() - heard) / 1000;
  fill(node, { state: SAYS[state], age: seconds < 2 ? "" : `${elapsed(seconds)} ago` });
}

function take(name, act) {
  source.addEventListener(name, (event) => {
    heard = Date.now();
    act(parse(event.data));
    show();
  });
}

export function open() {
  close();
  if (isPaused || document.hidden) return;
  const tasks = followed();
  const query = new URLSearchParams();
  if (tasks.length && tries < 2) query.set("tasks", tasks.join(","));
  source = new EventSource(`events?${query}`);
  take("snapshot", (fresh) => {
    tries = 0;
    for (const name of Object.keys(snapshot)) delete snapshot[name];
    Object.assign(snapshot, fresh);
    clock.tell(snapshot.time);
    show("live");
    tellAll("onScene");
    if (wasAway) tellAll("onBack");
    wasAway = false;
  });
  take("change", (patch) => {
    merge(snapshot, patch);
    clock.tell(snapshot.time);
    if (state === "away") tellAll("onBack");
    show("live");
    tellAll("onScene");
  });
  take("tasks", ({ items, gone }) => tellAll("onTasks", items, gone.map(String)));
  take("unavailable", () => show("away"));
  source.onerror = () => {
    wasAway = true;
    show("reconnecting");
    // What was refused is not tried again by the browser; what was cut off may be, but in its own time.
    retry();
  };
}

function retry() {
  source.close();
  clearTimeout(timer);
  const seconds = AGAIN_SECONDS[tries] ?? AGAIN_SECONDS.at(-1);
  tries += 1;
  const again = async () => {
    if (tries > 1 && (await isSignedOut())) location.reload();
    else open();
  };
  timer = setTimeout(again, seconds * (800 + Math.random() * 400));
}

async function isSignedOut() {
  try {
    return (await fetch("stats")).status === 401;
  } catch {
    return false;
  }
}

function close() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

function leave() {
  close();
  wasAway = true;
}

function comeBack() {
  show("connecting");
  open();
}

function pause() {
  isPaused = !isPaused;
  const button = $("#pause");
  button.setAttribute("aria-pressed", isPaused);
  document.documentElement.toggleAttribute("data-paused", isPaused);
  button.textContent = isPaused ? "Resume updates" : "Pause updates";
  if (!isPaused) return comeBack();
  leave();
  show("paused");
}

export const paused = () => isPaused;

export function start(follow) {
  followed = follow;
  $("#pause").addEventListener("click", pause);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) leave();
    else if (!isPaused) comeBack();
  });
  addEventListener("offline", () => {
    if (!isPaused) source?.onerror();
  });
  addEventListener("online", () => {
    tries = 0;
    open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  setInterval(() => {
    if (document.hidden) return;
    if (source && Date.now() - heard > SILENT_SECONDS * 1000) {
      heard = Date.now();
      wasAway = true;
      open();
    }
    show();
  }, 1000);
  open();
}
