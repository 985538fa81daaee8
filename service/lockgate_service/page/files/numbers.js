// The counters.

import { $, fill, set } from "./dom.js";
import { age } from "./clock.js";
import { COUNT_MAX, count, duration, grouped } from "./text.js";

function waiting(snapshot, name) {
  const numbers = Object.values(snapshot.queues).map((one) => one[name]);
  const sum = numbers.reduce((so, one) => so + Math.min(one, COUNT_MAX), 0);
  return grouped(sum) + (numbers.some((one) => one > COUNT_MAX) ? "+" : "");
}

export function show(snapshot) {
  const { running, hour, due_since: since } = snapshot.all;
  const root = $("#numbers .figures");
  const oldest = age(since);
  fill(root, {
    running: count(running),
    queued: waiting(snapshot, "queued"),
    scheduled: waiting(snapshot, "scheduled"),
    succeeded: grouped(hour.ended.succeeded),
    failed: grouped(hour.ended.failed),
    cancelled: grouped(hour.ended.cancelled),
    oldest,
    wait_median: duration(hour.wait.median),
    wait_p95: duration(hour.wait.p95),
    run_median: duration(hour.run.median),
    run_p95: duration(hour.run.p95),
  });
  $("[data-none]", root).hidden = Boolean(oldest);
  set($("[data-f=failed]", root).closest("a"), "data-bad", hour.ended.failed ? "" : null);
}
