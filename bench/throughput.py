"""``python -m bench.throughput``: tasks a second of real runners, against Postgres alone."""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.answer import Answer, middle, ratios
from bench.ground import Ground, Scale, until
from bench.pgbench import pgbench
from bench.processes import Meter
from bench.script import run, say
from lockgate.witness import Witness

MOST_PER_SECOND = 4000
"""Tasks: more than this machine executes in a second, so that a round never runs dry."""

PAYLOADS = {"noop": {}, "nap": {"seconds": 0.005}}
LAYOUTS = ((1, 16), (2, 8), (4, 4), (8, 2))
"""Runner processes, and the slots each of them may hold, for sixteen slots."""


@dataclass
class Round:
    """Tasks a second, and milliseconds of CPU that each group of processes used for a task."""

    rate: float
    cpu: dict[str, float]


def measure(scale: Scale) -> Answer:
    """Tasks a second of real runners, against finish-and-claim by pgbench on as many connections."""
    answer = Answer(
        "1. Tasks per second under the cap",
        "python -m bench.throughput",
        "Runner processes execute no-ops and handlers of 5 ms, each in its executor. The reference is pgbench, which "
        "calls `finish_and_claim` on as many connections as there are slots, with `\\sleep 5 ms` for a handler of 5 "
        "ms. The rounds take turns, and each begins with the same number of queued tasks in a vacuumed table. Median "
        "and range; CPU in milliseconds per task.",
    )
    with Ground(scale) as ground:
        answer.ground = ground.said()
        under_the_cap(scale, ground, answer)
        sixteen_slots(scale, ground, answer)
        cap(scale, ground, answer)
    return answer


def under_the_cap(scale: Scale, ground: Ground, answer: Answer) -> None:
    table = answer.table(
        "two slots, three runners", "tasks/s", "pgbench, two connections", "ratio", "CPU runners", "CPU executors",
        "CPU Postgres", "CPU Postgres under pgbench",
    )  # fmt: skip
    for kind, sleep_ms, title, least in (("noop", 0, "no-op", 0.6), ("nap", 5, "5 ms", 0.9)):
        rounds, references = [], []
        for number in range(scale(5, 1)):
            say(f"{title} on two slots, round {number + 1}")
            rounds.append(of_runners(ground, 3, 1, 2, kind, scale(6, 3)))
            references.append(of_pgbench(ground, 2, sleep_ms, scale(6, 3)))
        ratio = ratios([one.rate for one in rounds], [one.rate for one in references])
        table.add(
            title, rates(rounds), rates(references), middle(ratio), cpu(rounds, "runners"), cpu(rounds, "executors"),
            cpu(rounds, "Postgres"), cpu(references, "Postgres"),
        )  # fmt: skip
        aim = ", aim 0.8" if kind == "noop" else ""
        answer.target(
            f"{title}, of pgbench's rate", middle(ratio), f"≥ {least}{aim}", statistics.median(ratio) >= least
        )


def sixteen_slots(scale: Scale, ground: Ground, answer: Answer) -> None:
    table = answer.table(
        "sixteen slots", "no-op tasks/s", "of pgbench, 16 connections", "5 ms tasks/s", "of pgbench, 16 connections",
        "CPU runners", "CPU executors", "CPU Postgres",
    )  # fmt: skip
    noops: dict[tuple[int, int], list[Round]] = {layout: [] for layout in LAYOUTS}
    naps: dict[tuple[int, int], list[Round]] = {layout: [] for layout in LAYOUTS}
    noop_references, nap_references = [], []
    for number in range(scale(2, 1)):
        for processes, each in LAYOUTS if not scale.short else LAYOUTS[1:2]:
            say(f"sixteen slots, {processes} runners, round {number + 1}")
            noops[processes, each].append(of_runners(ground, processes, each, 16, "noop", scale(5, 3)))
            naps[processes, each].append(of_runners(ground, processes, each, 16, "nap", scale(5, 3)))
        noop_references.append(of_pgbench(ground, 16, 0, scale(5, 3)))
        nap_references.append(of_pgbench(ground, 16, 5, scale(5, 3)))
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


def cap(scale: Scale, ground: Ground, answer: Answer) -> None:
    """Apart from the rounds: a witness costs a connection for each task."""
    ground.main.value("select lockgate.set_slots('default', 2)")
    ground.main.refill(MOST_PER_SECOND)
    with Witness() as witness, ground.runners(3, ground.main, LOCKGATE_WITNESS=witness.address):
        until(lambda: len(witness.executions) >= scale(3000, 300), lambda: "the witness to see enough", 60)
    seen = len(witness.executions)
    answer.target(
        f"most at once by the witness, of {seen:,} no-ops on two slots", str(witness.most["default"]), "≤ 2",
        witness.most["default"] <= 2,
    )  # fmt: skip


def of_runners(
    ground: Ground,
    processes: int,
    concurrency: int,
    slots: int,
    kind: str,
    seconds: float,
    module: str = "lockgate_runner",
) -> Round:
    """One round of so many runner processes, counted once every slot has had its first tasks."""
    database = ground.main
    database.value("select lockgate.set_slots('default', %s)", slots)
    database.refill(int(MOST_PER_SECOND * (seconds + 5)), kind, json.dumps(PAYLOADS[kind]))
    with ground.runners(processes, database, module, LOCKGATE_CONCURRENCY=str(concurrency)) as started:
        until(lambda: busy(ground) == slots, lambda: f"{slots} slots to be busy: {started[0].words()}", 60)
        executors = [pid for runner in started for pid in runner.executors()]
        meter = Meter(
            {"runners": lambda: [r.pid for r in started], "executors": lambda: executors, "Postgres": ground.backends}
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


def of_pgbench(ground: Ground, clients: int, sleep_ms: int, seconds: int) -> Round:
    ground.main.value("select lockgate.set_slots('default', %s)", clients)
    ground.main.refill(MOST_PER_SECOND * (seconds + 1))
    meter = Meter({"Postgres": ground.backends})
    before = ground.main.claims()
    rate = pgbench(ground, ground.main, clients, seconds=seconds, sleep_ms=sleep_ms).rate
    tasks = ground.main.claims() - before
    return Round(rate, {"Postgres": 1000 * meter.seconds()["Postgres"] / tasks})


def busy(ground: Ground) -> int:
    """Slots that have executed something since the table was filled."""
    return int(ground.main.value("select count(distinct turn >> 40) from lockgate.task where turn is not null"))


def rates(rounds: Sequence[Round]) -> str:
    return middle([one.rate for one in rounds])


def share(rounds: Sequence[Round], references: Sequence[Round]) -> str:
    return middle(ratios([one.rate for one in rounds], [one.rate for one in references]))


def cpu(rounds: Sequence[Round], group: str) -> str:
    return middle([one.cpu[group] for one in rounds])


if __name__ == "__main__":
    run(measure)
