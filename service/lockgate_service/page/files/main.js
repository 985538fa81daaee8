// The page, put together: who is told of what. Read first.

import * as bulk from "./bulk.js";
import * as clock from "./clock.js";
import * as drawer from "./drawer.js";
import * as live from "./live.js";
import * as navigation from "./navigation.js";
import * as make from "./new_task.js";
import * as numbers from "./numbers.js";
import * as problems from "./problems.js";
import * as slots from "./slots.js";
import * as tables from "./tables.js";
import * as tasks from "./tasks.js";
import { ask } from "./toast.js";
import { tell } from "./api.js";

const FOLLOWED_MAX = 100;

/** What the stream does not tell of anyway: on the first page of all tasks it tells of every one. */
function followed() {
  const isEverything = !new URLSearchParams(location.search).size;
  const ids = [navigation.shownTask(), ...(isEverything ? [] : tasks.ids())].filter(Boolean);
  return [...new Set(ids)].slice(0, FOLLOWED_MAX);
}

async function changeSlots(queue, number) {
  const { running = 0, slots: before = number } = live.snapshot.queues?.[queue] ?? {};
  const text = running ? "What executes there goes on to its end; nothing new is started." : "Nothing will be started.";
  if (number === 0 && !(await ask(`No slots for queue ${queue}?`, text, "Take all slots away"))) return before;
  const done = `Queue ${queue} has ${number} ${number === 1 ? "slot" : "slots"}`;
  return (await tell("PATCH", `queues/${encodeURIComponent(queue)}`, done, { slots: number })) ? number : before;
}

document.documentElement.dataset.live = "";
clock.start();
navigation.start();
tasks.start();
bulk.start();
drawer.start();
make.start();
problems.start();
slots.start(changeSlots);
tables.start();

let before = String(followed());
navigation.listen((parts) => {
  if (parts.includes("tasks")) {
    tasks.loaded();
    bulk.show();
  }
  drawer.loaded(live.paused());
  const after = String(followed());
  if (before !== after) live.open();
  before = after;
});
live.listen({
  onScene() {
    for (const part of [slots, numbers, problems, tables]) part.show(live.snapshot);
  },
  onTasks(items, gone) {
    tasks.take(items, gone);
    bulk.show();
    drawer.take(items, gone);
  },
  onBack() {
    navigation.load(navigation.shownTask() ? ["tasks", "task"] : ["tasks"]);
    problems.again();
  },
});
live.start(followed);
