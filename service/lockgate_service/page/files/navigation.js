// The address of the page, which says what is listed and shown, and the parts of the page for it, anew from the service.

import { $, morph } from "./dom.js";
import { toast } from "./toast.js";

const LIMIT_MILLISECONDS = 15_000;
const MODIFIERS = ["metaKey", "ctrlKey", "shiftKey", "altKey"];

let latest = 0;
const after = [];

const parameters = () => new URLSearchParams(location.search);

export function taskLink(id) {
  const query = parameters();
  if (id == null) query.delete("task");
  else query.set("task", id);
  return `?${query}`;
}

export const shownTask = () => parameters().get("task");

/** Called with the names of the parts that have been loaded. */
export const listen = (listener) => after.push(listener);

/** As a document, without text that becomes one in a script: Trusted Types are not asked. */
function read(url) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.timeout = LIMIT_MILLISECONDS;
    request.onload = () =>
      request.status === 200 && request.response ? resolve(request.response) : reject(request.status);
    request.onerror = request.ontimeout = () => reject(0);
    request.send();
  });
}

/** `parts`: of "tasks" and "task". Whether it is there now; what is overtaken by another load is not. */
export async function load(parts) {
  const number = (latest += 1);
  const query = parameters();
  query.set("part", parts.join(","));
  let found;
  try {
    found = await read(`?${query}`);
  } catch (status) {
    if (status === 401) location.reload();
    else if (number === latest)
      toast(status ? `Not loaded: the service answered ${status}` : "Not loaded: the service cannot be reached", true);
    return false;
  }
  if (number !== latest) return false;
  for (const part of parts) {
    const fresh = $(`#${part}`, found);
    if (fresh) morph($(`#${part}`), fresh);
  }
  for (const listener of after) listener(parts);
  return true;
}

/** Goes to an address of this page. */
export function go(href) {
  const before = parameters();
  history.pushState(null, "", href);
  return arrive(before);
}

function arrive(before) {
  const now = parameters();
  const hasTask = now.has("task") || before.has("task");
  before.delete("task");
  now.delete("task");
  const isSameList = String(before) === String(now);
  return load([...(isSameList ? [] : ["tasks"]), ...(hasTask || isSameList ? ["task"] : [])]);
}

export function start() {
  let current = parameters();
  listen(() => (current = parameters()));
  addEventListener("popstate", () => arrive(current));
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='?'], a[href='./']");
    if (!link || event.defaultPrevented || event.button || MODIFIERS.some((key) => event[key])) return;
    event.preventDefault();
    const isForTasks = link.closest("#numbers, #problems, #queues, #runners, .band h3");
    go(link.getAttribute("href")).then((isThere) => {
      if (isThere && isForTasks) $("#tasks").scrollIntoView({ block: "start" });
    });
  });
}
