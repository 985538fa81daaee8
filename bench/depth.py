"""``python -m bench.depth``: whether what lies in the table makes a claim dearer."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.answer import Answer, middle, number, ratios
from bench.ground import Database, Ground, Scale
from bench.pgbench import pgbench
from bench.script import run, say

CLAIMS = 800
"""In a round of two connections; so many tasks are added again after it."""

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
    """One database, with so many tasks in it."""

    title: str
    database: Database
    pages: float = 0.0
    rates: list[float] = field(default_factory=list)
    size: str = ""


def measure(scale: Scale) -> Answer:
    """What a claim costs beside 1,000, a million, ten million waiting, scheduled, ended tasks."""
    many, most = scale((1_000_000, 10_000_000), (100_000, 1_000_000))
    answer = Answer(
        "4. Depth",
        "python -m bench.depth",
        f"Each row has a database of its own, filled and vacuumed before. Pages: the median of {STEPS} calls of "
        f"`finish_and_claim`. Rates: pgbench claims {CLAIMS} tasks a round on two connections, and then the bench adds "
        "as many. The databases take turns.",
    )
    with Ground(scale) as ground:
        answer.ground = ground.said()
        depths = [
            filled(ground, "thousand", "1,000 waiting", lambda database: database.add(1000)),
            filled(ground, "many", f"{many:,} waiting", lambda database: database.add(many)),
            filled(ground, "most", f"{most:,} waiting", lambda database: database.add(most)),
            filled(ground, "scheduled", f"1,000 waiting, {many:,} scheduled", lambda d: beside(d, SCHEDULED, many)),
            filled(ground, "ended", f"1,000 waiting, {most:,} ended", lambda d: beside(d, ENDED, most)),
        ]
        for depth in depths:
            depth.pages = pages(depth.database)
            depth.database.abandon()
        for number_of_round in range(scale(7, 2)):
            for depth in depths:
                say(f"{depth.title}, round {number_of_round + 1}")
                depth.rates.append(pgbench(ground, depth.database, 2, transactions=CLAIMS // 2).rate)
                depth.database.add(CLAIMS)
    table = answer.table(
        "tasks", "table and indexes", "pages per claim", "of those at 1,000", "claims/s", "of those at 1,000"
    )
    for depth in depths:
        share = depth.pages / depths[0].pages
        table.add(
            depth.title, depth.size, number(depth.pages), number(share), middle(depth.rates),
            middle(ratios(depth.rates, depths[0].rates)),
        )  # fmt: skip
        if depth is not depths[0]:
            answer.target(f"pages, {depth.title}", number(share), "≤ 1.1 of those at 1,000", share <= 1.1)
    return answer


def filled(ground: Ground, name: str, title: str, fill: Callable[[Database], None]) -> Depth:
    """A database of its own with these tasks in it."""
    say(f"filling: {title}")
    begin = time.perf_counter()
    database = ground.database(name)
    with database.owner.transaction():
        # With wal_level = minimal, what is written to a table in the transaction that empties it needs no WAL.
        database.owner.execute("truncate lockgate.task")
        fill(database)
    database.owner.execute("vacuum (analyze) lockgate.task")
    database.owner.execute("checkpoint")
    size = database.value("select pg_size_pretty(pg_total_relation_size('lockgate.task'))")
    say(f"took {time.perf_counter() - begin:.0f} s")
    return Depth(title, database, size=size)


def beside(database: Database, insert: str, count: int) -> None:
    """So many tasks by that statement, and a thousand that wait."""
    database.owner.execute(insert.encode(), (count,))
    database.add(1000)


def pages(database: Database) -> float:
    """Pages that finishing a task and claiming the next touch together."""
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
