"""``python -m bench.enqueue``: tasks stored a second, one by one over HTTP and in batches."""

import json
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg

from bench.load import Load, post
from bench.processes import Meter
from bench.report import Report, middle, number, percentile, ratios
from bench.script import progress, run
from bench.testbed import INSERT, Program, Scale, Testbed, until
from bench.wakeup import serve
from lockgate.postgres.server import free_port

BODY = b'{"kind":"noop","payload":{"to":"somebody@example.org","subject":"Hello"}}'
CONNECTIONS = (1, 16, 64)
BATCH = 1000
BATCHES = 40
CALL = "select task, outcome, queue, due from lockgate.submit_all(%s::jsonb)"
"""The service's statement for a batch that succeeds as a whole or not at all."""


def measure(scale: Scale) -> Report:
    """Measures tasks stored a second: single POSTs against an empty handler, batches against psql."""
    report = Report(
        "3. Storing tasks",
        "python -m bench.enqueue",
        "The service answers `POST /tasks` after the commit. Clients keep their connections and have one request under "
        "way on each. The reference is a Litestar handler that decodes the same body and does nothing. Each of the two "
        f"runs in one uvicorn process. Batches of {BATCH:,} follow one another, with one commit each, over HTTP and by "
        "a call in SQL. Their references are psql with the same call and the same text, and psql with an `insert … "
        "select` of as many rows into the same table. Rounds take turns.",
    )
    with Testbed(scale) as testbed:
        report.environment = testbed.describe()
        service, port = serve(testbed)
        single(scale, testbed, report, service, port)
        batches(scale, testbed, report, port)
    return report


def single(scale: Scale, testbed: Testbed, report: Report, service: Program, port: int) -> None:
    table = report.table(
        "connections", "POST /tasks, requests/s", "does nothing, requests/s", "ratio", "p50, ms", "p99, ms",
        "CPU service", "CPU Postgres", "CPU does nothing", "CPU load",
    )  # fmt: skip
    nothing, nothing_port = do_nothing(testbed)
    for connections in CONNECTIONS:
        ours: list[Load] = []
        theirs: list[Load] = []
        cpu: dict[str, list[float]] = {"service": [], "Postgres": [], "nothing": []}
        for number_of_round in range(scale(5, 1)):
            progress(f"{connections} connections, round {number_of_round + 1}")
            testbed.main.refill(0)
            meter = Meter({"service": lambda: [service.pid], "Postgres": testbed.backends})
            ours.append(post(port, BODY, connections, scale(5, 2)))
            for name, used in meter.seconds().items():
                cpu[name].append(1000 * used / len(ours[-1].seconds))
            stored = testbed.main.value("select count(*) from lockgate.task")
            if stored != len(ours[-1].seconds):
                raise RuntimeError(f"{len(ours[-1].seconds)} were accepted, {stored} are stored")
            meter = Meter({"nothing": lambda: [nothing.pid]})
            theirs.append(post(nothing_port, BODY, connections, scale(5, 2)))
            cpu["nothing"].append(1000 * meter.seconds()["nothing"] / len(theirs[-1].seconds))
        ratio = ratios([load.rate for load in ours], [load.rate for load in theirs])
        ms = [1000 * seconds for load in ours for seconds in load.seconds]
        table.add(
            str(connections), middle([load.rate for load in ours]), middle([load.rate for load in theirs]),
            middle(ratio), number(percentile(ms, 50)), number(percentile(ms, 99)), middle(cpu["service"]),
            middle(cpu["Postgres"]), middle(cpu["nothing"]),
            f"{100 * max(load.cpu / load.elapsed for load in (*ours, *theirs)):.0f} % of a core",
        )  # fmt: skip
        if connections == 64:
            met = statistics.median(ratio) >= 0.7
            report.target("single POSTs at 64 connections", middle(ratio), "≥ 0.7 of doing nothing", met)


def batches(scale: Scale, testbed: Testbed, report: Report, port: int) -> None:
    count = scale(BATCHES, 5)
    table = report.table(
        f"batches of {BATCH:,}, {count} a round",
        "tasks/s",
        "of psql with the same call",
        "of psql with insert … select",
    )
    tasks = json.dumps([json.loads(BODY)] * BATCH)
    payload = json.dumps(json.loads(BODY)["payload"])
    call = CALL.replace("%s", f"'{tasks}'")
    insert = INSERT.strip().replace("%s", "'noop'", 1).replace("%s", f"'{payload}'", 1).replace("%s", str(BATCH), 1)
    ways: dict[str, Callable[[], float]] = {
        "`POST /tasks/batch`": lambda: over_http(port, tasks, scale(2, 1)),
        "`submit_all`": lambda: over_sql(testbed, tasks, count),
        "psql, the same call": lambda: psql(testbed, call, count),
        "psql, `insert … select`": lambda: psql(testbed, insert, count),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number_of_round in range(scale(5, 1)):
        progress(f"batches, round {number_of_round + 1}")
        for way, rate in ways.items():
            testbed.main.refill(0)
            rates[way].append(rate())
    same, bare = rates["psql, the same call"], rates["psql, `insert … select`"]
    for way, ours in rates.items():
        table.add(way, middle(ours), middle(ratios(ours, same)), middle(ratios(ours, bare)))
    for way, reference, what in (
        ("`POST /tasks/batch`", same, "the same call"),
        ("`submit_all`", bare, "the insert"),
    ):
        ratio = ratios(rates[way], reference)
        report.target(f"{way}, of psql with {what}", middle(ratio), "≥ 0.5", statistics.median(ratio) >= 0.5)


def over_http(port: int, tasks: str, seconds: float) -> float:
    """Returns tasks a second in batches on one connection."""
    return BATCH * post(port, f'{{"items":{tasks}}}'.encode(), 1, seconds, path="/tasks/batch").rate


def over_sql(testbed: Testbed, tasks: str, count: int) -> float:
    with psycopg.connect(testbed.main.urls["service"], autocommit=True) as connection:
        begin = time.perf_counter()
        for _ in range(count):
            connection.execute(CALL, (tasks,)).fetchall()
        return BATCH * count / (time.perf_counter() - begin)


def psql(testbed: Testbed, statement: str, count: int) -> float:
    """Returns tasks a second by psql, which executes the statement `count` times; without its start."""
    script = testbed.folder / "statements.sql"
    script.write_text("select 1;\n\\timing on\n" + f"{statement};\n" * count)
    done = subprocess.run(
        [testbed.server.binaries / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", script, testbed.main.urls["owner"]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    times = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("Time:")]
    if done.returncode != 0 or len(times) != count:
        raise RuntimeError(f"psql: {done.stderr}")
    return 1000 * BATCH * count / sum(times)


def do_nothing(testbed: Testbed) -> tuple[Program, int]:
    port = free_port()
    program = testbed.start(f"bench.baseline {port}")

    def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    until(listens, lambda: f"the handler that does nothing: {program.log_tail()}", 60)
    return program, port


if __name__ == "__main__":
    run(measure)
