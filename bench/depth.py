"""``python -m bench.depth``: whether other tasks in the table make a claim slower."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.pgbench import pgbench
from bench.report import Report, middle, number, ratios
from bench.script import progress, run
from bench.testbed import Database, Scale, Testbed

CLAIMS = 800
"""Claims in a round on two connections; the bench adds as many tasks after it."""

STEPS = 50

SCHEDULED = """
insert into lockgate.task (queue, kind, status, run_at, max_attempts, payload)
select 'default', 'noop', 'scheduled', now() + interval '1 day' + g * interval '1 second', 3, '{}'
from generate_series(1, %s) g
"""
ENDED = """
insert into lockgate.task (
  queue, kind, status, create_time, run_at, start_time, finish_time, exec_time, attempt, max_attempts, turn, lease,
  runner, session, grace, payload)
select 'default', 'noop', 'succeeded', at, at, at, at, 0.001, 1, 3, lockgate.first_turn(1 + g %% 2) + g,
  nextval('lockgate.lease'), 'host-1-abcdef', 1, 5, '{}'
from generate_series(1, %s) g, lateral (select now() - interval '6 days' + g * interval '1 millisecond' as at) t
"""
STEP = "select * from lockgate.finish_and_claim(%s, %s, 'bench', 0.001, null, 1, %s, 1)"


@dataclass
class Depth:
    """One database with a number of tasks in it."""

    title: str
    database: Database
    pages: float = 0.0
    rates: list[float] = field(default_factory=list)
    size: str = ""


def measure(scale: Scale) -> Report:
    """Measures a claim beside 1,000, a million, ten million waiting, scheduled, ended tasks."""
    many, most = scale((1_000_000, 10_000_000), (100_000, 1_000_000))
    report = Report(
        "4. Depth",
        "python -m bench.depth",
        f"Each row has a database of its own, filled and vacuumed before. Pages: the median of {STEPS} calls of "
        f"`finish_and_claim`. Rates: pgbench claims {CLAIMS} tasks a round on two connections, and then the bench adds "
        "as many. The databases take turns.",
    )
    with Testbed(scale) as testbed:
        report.environment = testbed.describe()
        depths = [
            filled(testbed, "thousand", "1,000 waiting", lambda database: database.add(1000)),
            filled(testbed, "many", f"{many:,} waiting", lambda database: database.add(many)),
            filled(testbed, "most", f"{most:,} waiting", lambda database: database.add(most)),
            filled(testbed, "scheduled", f"1,000 waiting, {many:,} scheduled", lambda d: beside(d, SCHEDULED, many)),
            filled(testbed, "ended", f"1,000 waiting, {most:,} ended", lambda d: beside(d, ENDED, most)),
        ]
        for depth in depths:
            depth.pages = pages(depth.database)
            depth.database.delete_running()
        for number_of_round in range(scale(7, 2)):
            for depth in depths:
                progress(f"{depth.title}, round {number_of_round + 1}")
                depth.rates.append(pgbench(testbed, depth.database, 2, transactions=CLAIMS // 2).rate)
                depth.database.add(CLAIMS)
    table = report.table(
        "tasks", "table and indexes", "pages per claim", "of those at 1,000", "claims/s", "of those at 1,000"
    )
    for depth in depths:
        share = depth.pages / depths[0].pages
        table.add(
            depth.title, depth.size, number(depth.pages), number(share), middle(depth.rates),
            middle(ratios(depth.rates, depths[0].rates)),
        )  # fmt: skip
        if depth is not depths[0]:
            report.target(f"pages, {depth.title}", number(share), "≤ 1.1 of those at 1,000", share <= 1.1)
    return report


def filled(testbed: Testbed, name: str, title: str, fill: Callable[[Database], None]) -> Depth:
    """Makes a database with these tasks in it."""
    progress(f"filling: {title}")
    begin = time.perf_counter()
    database = testbed.database(name)
    with database.owner.transaction():
        # With wal_level = minimal, writes to a table need no WAL in the transaction that truncates it.
        database.owner.execute("truncate lockgate.task")
        fill(database)
    database.owner.execute("vacuum (analyze) lockgate.task")
    database.owner.execute("checkpoint")
    size = database.value("select pg_size_pretty(pg_total_relation_size('lockgate.task'))")
    progress(f"took {time.perf_counter() - begin:.0f} s")
    return Depth(title, database, size=size)


def beside(database: Database, insert: str, count: int) -> None:
    """Adds tasks by that statement, and a thousand waiting ones."""
    database.owner.execute(insert.encode(), (count,))
    database.add(1000)


def pages(database: Database) -> float:
    """Returns the pages that one `finish_and_claim` touches."""
    touched = []
    with psycopg.connect(database.urls["runner"], autocommit=True) as connection:
        slot = row(connection, "select lockgate.take_slot(1)")[0]
        task, lease = row(connection, "select task, lease from lockgate.claim(1, %s, 'bench', 1)", slot)
        for step in range(STEPS + 20):
            plan = row(connection, f"explain (analyze, buffers, format json) {STEP}", task, lease, slot)[0][0]["Plan"]
            if step >= 20:
                touched.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
            task, lease = database.owner.execute("select id, lease from lockgate.running()").fetchone() or (0, 0)
    return float(statistics.median(touched))


def row(connection: "psycopg.Connection[Any]", query: str, *parameters: object) -> Any:
    found = connection.execute(query.encode(), parameters).fetchone()
    assert found
    return found


if __name__ == "__main__":
    run(measure)
