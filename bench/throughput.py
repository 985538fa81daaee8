"""``python -m bench.throughput``: tasks a second of real runners, against Postgres alone."""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.pgbench import pgbench
from bench.processes import Meter
from bench.report import Report, middle, ratios
from bench.script import progress, run
from bench.testbed import Scale, Testbed, until
from lockgate.witness import Witness

MOST_PER_SECOND = 4000
"""Tasks: more than this machine executes in a second, so that a round never runs out of them."""

PAYLOADS = {"noop": {}, "nap": {"seconds": 0.005}}
LAYOUTS = ((1, 16), (2, 8), (4, 4), (8, 2))
"""Runner processes, and the slots each of them may hold, for sixteen slots."""


@dataclass
class Round:
    """Tasks a second, and milliseconds of CPU that each group of processes used for a task."""

    rate: float
    cpu: dict[str, float]


def measure(scale: Scale) -> Report:
    """Measures tasks a second of runners, against `finish_and_claim` by pgbench on as many connections."""
    report = Report(
        "1. Tasks per second under the cap",
        "python -m bench.throughput",
        "Runner processes execute no-ops and handlers of 5 ms, each in its executor. The reference is pgbench, which "
        "calls `finish_and_claim` on as many connections as there are slots, with `\\sleep 5 ms` for a handler of 5 "
        "ms. The rounds take turns, and each begins with the same number of queued tasks in a vacuumed table. Median "
        "and range; CPU in milliseconds per task.",
    )
    with Testbed(scale) as testbed:
        report.environment = testbed.describe()
        under_the_cap(scale, testbed, report)
        sixteen_slots(scale, testbed, report)
        cap(scale, testbed, report)
    return report


def under_the_cap(scale: Scale, testbed: Testbed, report: Report) -> None:
    table = report.table(
        "two slots, three runners", "tasks/s", "pgbench, two connections", "ratio", "CPU runners", "CPU executors",
        "CPU Postgres", "CPU Postgres under pgbench",
    )  # fmt: skip
    for kind, sleep_ms, title, least in (("noop", 0, "no-op", 0.6), ("nap", 5, "5 ms", 0.9)):
        rounds, references = [], []
        for number in range(scale(5, 1)):
            progress(f"{title} on two slots, round {number + 1}")
            rounds.append(of_runners(testbed, 3, 1, 2, kind, scale(6, 3)))
            references.append(of_pgbench(testbed, 2, sleep_ms, scale(6, 3)))
        ratio = ratios([one.rate for one in rounds], [one.rate for one in references])
        table.add(
            title, rates(rounds), rates(references), middle(ratio), cpu(rounds, "runners"), cpu(rounds, "executors"),
            cpu(rounds, "Postgres"), cpu(references, "Postgres"),
        )  # fmt: skip
        aim = ", aim 0.8" if kind == "noop" else ""
        report.target(
            f"{title}, of pgbench's rate", middle(ratio), f"≥ {least}{aim}", statistics.median(ratio) >= least
        )


def sixteen_slots(scale: Scale, testbed: Testbed, report: Report) -> None:
    table = report.table(
        "sixteen slots", "no-op tasks/s", "of pgbench, 16 connections", "5 ms tasks/s", "of pgbench, 16 connections",
        "CPU runners", "CPU executors", "CPU Postgres",
    )  # fmt: skip
    noops: dict[tuple[int, int], list[Round]] = {layout: [] for layout in LAYOUTS}
    naps: dict[tuple[int, int], list[Round]] = {layout: [] for layout in LAYOUTS}
    noop_references, nap_references = [], []
    for number in range(scale(2, 1)):
        for processes, each in LAYOUTS if not scale.short else LAYOUTS[1:2]:
            progress(f"sixteen slots, {processes} runners, round {number + 1}")
            noops[processes, each].append(of_runners(testbed, processes, each, 16, "noop", scale(5, 3)))
            naps[processes, each].append(of_runners(testbed, processes, each, 16, "nap", scale(5, 3)))
        noop_references.append(of_pgbench(testbed, 16, 0, scale(5, 3)))
        nap_references.append(of_pgbench(testbed, 16, 5, scale(5, 3)))
    for (processes, each), rounds in noops.items():
        if rounds:
            of_naps = naps[processes, each]
            table.add(
                f"{processes} runners of {each}", rates(rounds), share(rounds, noop_references), rates(of_naps),
                share(of_naps, nap_references), cpu(rounds, "runners"), cpu(rounds, "executors"),
                cpu(rounds, "Postgres"),
            )  # fmt: skip
    table.add(
        "pgbench", rates(noop_references), "1", rates(nap_references), "1", "", "", cpu(noop_references, "Postgres")
    )


def cap(scale: Scale, testbed: Testbed, report: Report) -> None:
    """Counts executions by a witness; apart from the rounds, since each task opens a connection to it."""
    testbed.main.value("select lockgate.set_slots('default', 2)")
    testbed.main.refill(MOST_PER_SECOND)
    with Witness() as witness, testbed.runners(3, testbed.main, LOCKGATE_WITNESS=witness.address):
        until(lambda: len(witness.executions) >= scale(3000, 300), lambda: "the witness to see enough", 60)
    seen = len(witness.executions)
    report.target(
        f"most at once by the witness, of {seen:,} no-ops on two slots", str(witness.most["default"]), "≤ 2",
        witness.most["default"] <= 2,
    )  # fmt: skip


def of_runners(
    testbed: Testbed,
    processes: int,
    concurrency: int,
    slots: int,
    kind: str,
    seconds: float,
    module: str = "lockgate_runner",
) -> Round:
    """Measures one round of runner processes, from the moment all slots are busy."""
    database = testbed.main
    database.value("select lockgate.set_slots('default', %s)", slots)
    database.refill(int(MOST_PER_SECOND * (seconds + 5)), kind, json.dumps(PAYLOADS[kind]))
    with testbed.runners(processes, database, module, LOCKGATE_CONCURRENCY=str(concurrency)) as started:
        until(lambda: busy(testbed) == slots, lambda: f"{slots} slots to be busy: {started[0].log_tail()}", 60)
        executors = [pid for runner in started for pid in runner.executors()]
        meter = Meter(
            {"runners": lambda: [r.pid for r in started], "executors": lambda: executors, "Postgres": testbed.backends}
        )
        before = database.claims()
        time.sleep(seconds)
        tasks, elapsed = database.claims() - before, meter.elapsed
        used = meter.seconds()
    wrong = database.value(
        "select count(*) from lockgate.task where status <> 'queued' and (status <> 'succeeded' or attempt <> 1)"
    )
    left = database.value("select count(*) from lockgate.task where status = 'queued'")
    if wrong or not left:
        raise RuntimeError(f"{wrong} tasks did not succeed at once, {left} left at the end")
    return Round(tasks / elapsed, {name: 1000 * spent / tasks for name, spent in used.items()})


def of_pgbench(testbed: Testbed, clients: int, sleep_ms: int, seconds: int) -> Round:
    testbed.main.value("select lockgate.set_slots('default', %s)", clients)
    testbed.main.refill(MOST_PER_SECOND * (seconds + 1))
    meter = Meter({"Postgres": testbed.backends})
    before = testbed.main.claims()
    rate = pgbench(testbed, testbed.main, clients, seconds=seconds, sleep_ms=sleep_ms).rate
    tasks = testbed.main.claims() - before
    return Round(rate, {"Postgres": 1000 * meter.seconds()["Postgres"] / tasks})


def busy(testbed: Testbed) -> int:
    """Returns the slots that have executed a task since the table was filled."""
    return int(testbed.main.value("select count(distinct turn >> 40) from lockgate.task where turn is not null"))


def rates(rounds: Sequence[Round]) -> str:
    return middle([one.rate for one in rounds])


def share(rounds: Sequence[Round], references: Sequence[Round]) -> str:
    return middle(ratios([one.rate for one in rounds], [one.rate for one in references]))


def cpu(rounds: Sequence[Round], group: str) -> str:
    return middle([one.cpu[group] for one in rounds])


if __name__ == "__main__":
    run(measure)
