"""``python -m bench.reads``: how long each list, number and view takes on ten million tasks."""

import time
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import httpx
import psycopg

from bench.report import Report, number, percentile
from bench.script import progress, run
from bench.testbed import Database, Scale, Testbed
from bench.wakeup import serve

TIMES = 15
PART = 250_000
LIMIT = 50.0  # ms

# Three queues of very different sizes, over a week; two in a hundred failed, one was cancelled, few have a tag.
ENDED = """
insert into lockgate.task (
  queue, kind, status, create_time, run_at, start_time, finish_time, exec_time, attempt, max_attempts, turn, lease,
  runner, session, grace, payload, error, tags)
select case when g %% 10000 = 0 then 'gpu' when g %% 10 = 0 then 'mail' else 'default' end, 'kind-' || g %% 20,
  case when g %% 50 = 1 then 'failed' when g %% 100 = 2 then 'cancelled' else 'succeeded' end::lockgate.status,
  at, at, at, at + interval '2 seconds', 1.5, 1, 3, lockgate.first_turn(1) + g, nextval('lockgate.lease'),
  'runner-' || g %% 50, 1, 5, jsonb_build_object('n', g),
  case when g %% 50 = 1 then jsonb_build_object('type', 'Boom' || g %% 7, 'message', 'it went wrong: ' || g) end,
  case when g %% 100 = 3 then array['some'] when g %% 1000000 = 4 then array['rare'] else '{}' end
from generate_series(%(first)s, %(last)s) g,
  lateral (select now() - interval '7 days' + g * interval '7 days' / %(all)s as at) t
"""
WAITING = """
insert into lockgate.task (queue, kind, status, priority, run_at, max_attempts, payload)
select 'default', 'kind-1', s, g %% 3, now() + case s when 'scheduled' then interval '1 day' else '0' end, 3, '{}'
from generate_series(1, %s) g, unnest(array['queued', 'scheduled']::lockgate.status[]) s
"""
VIEWS = (
    "queue_overview", "queue_stats", "stats_total_detail", "slot_overview", "runner_overview", "task_recent",
    "failures", "ended_since(now() - interval '1 hour')", "series(now() - interval '1 day', now(), 900)",
)  # fmt: skip


def measure(scale: Scale) -> Report:
    """Measures lists, numbers and views on a table that is too large to scan."""
    tasks = scale(10_000_000, 300_000)
    report = Report(
        "10. Reads",
        "python -m bench.reads",
        f"The table holds {tasks:,} tasks that ended within a week, {tasks // 200:,} that are due and as many "
        f"scheduled. One client sends each request to one service {TIMES} times. A page asks for 50 tasks; the table "
        "says how many it found, and whether there is a next page. The service computes numbers and failures once for "
        "all callers at about the same time; the column of the first request shows what that takes.",
    )
    with Testbed(scale, {"shared_buffers": "1GB", "max_wal_size": "4GB"}) as testbed:
        report.environment = testbed.describe()
        fill(testbed.main, tasks)
        _, port = serve(testbed)
        slowest = ("", 0.0)
        table = report.table("request", "first, ms", "median, ms", "p95, ms", "tasks", "next page")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for path in paths(testbed.main):
                taken, answered = timed(client, path)
                items = answered.get("items")
                found = (
                    [str(len(items)), "yes" if answered.get("next_cursor") else "no"] if items is not None else ["", ""]
                )
                table.add(f"`{path}`", number(taken[0]), number(median(taken)), number(percentile(taken, 95)), *found)
                slowest = max(slowest, (path, median(taken)), key=lambda one: one[1])
        views = report.table("view or function", "median, ms", "p95, ms")
        with psycopg.connect(testbed.main.urls["service"], autocommit=True) as connection:
            for view in VIEWS:
                taken = [milliseconds(connection, "select * from lockgate." + view) for _ in range(TIMES)]  # noqa: S608  of a constant
                views.add(f"`{view}`", number(median(taken)), number(percentile(taken, 95)))
                slowest = max(slowest, (view, median(taken)), key=lambda one: one[1])
        report.target(f"the slowest median, `{slowest[0]}`", f"{number(slowest[1])} ms", "< 50 ms", slowest[1] < LIMIT)
    return report


def fill(database: Database, tasks: int) -> None:
    begin = time.perf_counter()
    for queue in ("mail", "gpu"):
        database.owner.execute("select lockgate.create_queue(%s)", (queue,))
    for first in range(0, tasks, PART):
        progress(f"{first:,} tasks after {time.perf_counter() - begin:.0f} s")
        last = min(first + PART, tasks) - 1
        database.owner.execute(ENDED.encode(), {"first": first, "last": last, "all": tasks})
    database.owner.execute(WAITING.encode(), (tasks // 200,))
    database.owner.execute("vacuum (analyze) lockgate.task")
    progress("counting what has ended")
    while database.value("select lockgate.roll_up(100000)"):
        pass
    database.owner.execute("checkpoint")


def paths(database: Database) -> list[str]:
    def ago(hours: float) -> str:
        return (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")

    middle = database.value("select max(id) / 2 from lockgate.task")
    waiting = database.value("select max(id) from lockgate.task where status = 'queued'")
    lists = [
        "", *(f"status={status}" for status in ("scheduled", "queued", "running", "succeeded", "failed", "cancelled")),
        "status=failed&status=cancelled", "status=queued&status=running", "status=failed&queue=gpu", "queue=mail",
        "queue=gpu", "kind=kind-3", "kind=none", "tag=some", "tag=rare", "runner=runner-7", "error=boom3",
        "error=nothing+like+it", "failure=Boom3:+it+went+wrong:+%23", "failure=none",
        f"created_after={ago(1)}", f"created_before={ago(100)}",
        f"created_before={ago(100)}&queue=mail", f"finished_after={ago(0.02)}",
        f"finished_after={ago(48)}&finished_before={ago(47)}", "fields=full",
    ]  # fmt: skip
    return [
        *(f"/tasks?{query}" for query in lists), f"/tasks/{middle}", f"/tasks/{waiting}", f"/task/{middle}",
        "/stats", "/stats/series", "/stats/series?window=7d&step=1h", "/failures", "/failures?window=24h",
        "/failures?queue=gpu", "/queues", "/slots", "/runners",
    ]  # fmt: skip


def timed(client: httpx.Client, path: str) -> tuple[list[float], Any]:
    """Returns the milliseconds of each request, and the last answer."""
    taken = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        response = client.get(path)
        taken.append((time.perf_counter() - begin) * 1000)
        response.raise_for_status()
    return taken, response.json()


def milliseconds(connection: "psycopg.Connection[Any]", query: str) -> float:
    begin = time.perf_counter()
    connection.execute(query.encode()).fetchall()
    return (time.perf_counter() - begin) * 1000


if __name__ == "__main__":
    run(measure)
