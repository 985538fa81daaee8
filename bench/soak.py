"""``python -m bench.soak``: hours of work in half an hour, and whether anything grows."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import click
import psycopg

from bench.load import post
from bench.processes import pss
from bench.report import Report, number
from bench.script import progress, run
from bench.testbed import Database, Program, Scale, Testbed, until
from bench.wakeup import serve

BODY = b'{"kind":"noop","payload":{"to":"somebody@example.org"}}'
FEED_EVERY = 0.1
"""Seconds between two batches."""

BATCH = 1000
MIB = 2**20
COLUMNS = (
    "minute", "tasks done", "tasks/s", "waiting", "rows", "dead rows", "vacuums", "table, MiB", "indexes, MiB",
    "WAL/task, bytes", "runners, MiB", "executors, MiB", "service, MiB", "Postgres, MiB",
)  # fmt: skip


@dataclass
class State:
    """The server's counters at one moment."""

    at: float
    claims: int
    wal: int
    waiting: int
    rows: int
    dead: int
    vacuums: int
    table: int
    indexes: int


def measure(
    scale: Scale, tasks: int, rate: int, http: int, runners: int, slots: int, retention: int, storage: tuple[str, ...]
) -> Report:
    """Submits tasks at a steady rate to service and runners; reads sizes and memory every minute."""
    tasks, every = (tasks, 60) if not scale.short else (rate * 20, 5)
    report = Report(
        "6. Soak",
        "python -m bench.soak",
        f"The bench submits {tasks:,} no-ops at {rate} a second, {http} of them over HTTP one by one and the rest in "
        f"batches. {runners} runners execute them on {slots} slots, and the retention of ended tasks is {retention} s. "
        f"Storage parameters of the table: {', '.join(storage) or 'none but those of the schema'}. Memory is PSS.",
    )
    with Testbed(scale) as testbed:
        report.environment = testbed.describe()
        database = testbed.main
        database.value(
            "select lockgate.change_queue('default', jsonb_build_object('slots', %s::int, 'retention', %s::int))",
            slots,
            retention,
        )
        if storage:
            database.owner.execute(f"alter table lockgate.task set ({', '.join(storage)})".encode())
        service, port = serve(testbed)
        first, first_id = database.claims(), database.given("task_id_seq")
        table = report.table(*COLUMNS)
        with (
            testbed.runners(runners, database, LOCKGATE_CONCURRENCY=str(-(-slots // runners))) as started,
            Feeder(database, port, tasks, rate, http) as feeder,
        ):
            until(lambda: database.claims() > 10, lambda: "the first claims", 60)
            before = begin = fed = read_state(database)
            progress(" | ".join(COLUMNS))
            while not feeder.ended or before.waiting:
                time.sleep(max(0.0, before.at + every - time.monotonic()))
                now = read_state(database)
                table.add(*row(testbed, begin, before, now, started, service))
                progress(" | ".join(table.rows[-1]))
                before = now
                if not feeder.ended:
                    fed = now
        claims, submitted = database.claims() - first, database.given("task_id_seq") - first_id
        left = database.value("select count(*) from lockgate.task where status <> 'succeeded'")
        report.target(
            "claims, and tasks that did not succeed",
            f"{claims:,}, {left}",
            f"{submitted:,} as submitted, 0",
            (claims, left) == (submitted, 0),
        )
        done = (fed.claims - begin.claims) / (fed.at - begin.at)
        report.target("tasks/s while any were submitted", number(done), f"≥ {min(rate, 800)}", done >= min(rate, 800))
    return report


def read_state(database: Database) -> State:
    row = database.owner.execute(
        """
        select (select last_value from lockgate.lease), pg_current_wal_lsn() - '0/0',
          (select count(*) from lockgate.task where status = 'queued'), n_live_tup, n_dead_tup,
          vacuum_count + autovacuum_count, pg_table_size(relid), pg_indexes_size(relid)
        from pg_stat_user_tables where schemaname = 'lockgate' and relname = 'task'
        """
    ).fetchone()
    assert row
    return State(time.monotonic(), *map(int, row))


def row(
    testbed: Testbed, begin: State, before: State, now: State, runners: list[Program], service: Program
) -> list[str]:
    """Returns a row of COLUMNS."""
    tasks = now.claims - before.claims
    groups = (
        [program.pid for program in runners],
        [pid for program in runners for pid in program.executors()],
        [service.pid],
        testbed.backends(),
    )
    cells = (
        f"{(now.at - begin.at) / 60:.1f}", now.claims - begin.claims, tasks / (now.at - before.at), now.waiting,
        now.rows, now.dead, now.vacuums, now.table / MIB, now.indexes / MIB, (now.wal - before.wal) / max(tasks, 1),
        *(sum(map(pss, group)) / MIB for group in groups),
    )  # fmt: skip
    return [number(cell) for cell in cells]


class Feeder:
    """A context that submits at a steady rate, most tasks in batches and some over HTTP."""

    def __init__(self, database: Database, port: int, tasks: int, rate: int, http: int) -> None:
        self._stop = threading.Event()
        self._failure: Exception | None = None
        seconds = tasks / rate
        self._threads = [
            threading.Thread(target=self._guard, args=(self._feed, database, tasks - int(http * seconds), rate - http)),
            threading.Thread(target=self._guard, args=(post, port, BODY, 1, seconds, 1 / http)),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def ended(self) -> bool:
        """Whether all tasks are submitted. Raises the error of a thread."""
        if self._failure:
            raise self._failure
        return not any(thread.is_alive() for thread in self._threads)

    def _guard(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception as error:
            self._failure = error

    def _feed(self, database: Database, tasks: int, rate: float) -> None:
        begin, fed = time.monotonic(), 0
        with psycopg.connect(database.urls["service"], autocommit=True) as connection:
            while fed < tasks and not self._stop.wait(FEED_EVERY):
                due = min(tasks, int((time.monotonic() - begin) * rate)) - fed
                batch = json.dumps([json.loads(BODY)] * min(due, BATCH))
                connection.execute("select count(*) from lockgate.submit_batch(%s::jsonb)", (batch,))
                connection.execute("select lockgate.notify_due('default', 'now')")
                fed += min(due, BATCH)


OPTIONS = (
    click.option("--tasks", type=int, default=1_500_000, show_default=True, help="How many in all."),
    click.option("--rate", type=int, default=820, show_default=True, help="Tasks submitted a second."),
    click.option("--http", type=int, default=10, show_default=True, help="How many of these one by one over HTTP."),
    click.option("--runners", type=int, default=2, show_default=True, help="Runner processes."),
    click.option("--slots", type=int, default=4, show_default=True, help="Slots of the queue."),
    click.option("--retention", type=int, default=300, show_default=True, help="Seconds ended tasks are kept."),
    click.option(
        "--storage", multiple=True, metavar="NAME=VALUE", help="Storage parameter of the table; several times."
    ),
)

if __name__ == "__main__":
    run(measure, *OPTIONS)
