"""``python -m bench.safety``: the cost of the guards and of standbys."""

import time
from contextlib import ExitStack

from bench.pgbench import pgbench
from bench.processes import Meter, pss
from bench.report import Report, middle, number, ratios
from bench.script import progress, run
from bench.testbed import Database, Program, Scale, Testbed
from bench.throughput import MOST_PER_SECOND, Round, cpu, of_runners, rates

CHECK = "if not lockgate.recheck_slot(p_queue, p_slot) then"
NEVER = 3600.0
"""Seconds of grace with which a runner pings every six minutes."""


def measure(scale: Scale) -> Report:
    """Measures slot check, pings and executors, with and without; and a hundred standbys."""
    report = Report(
        "7. The cost of safety",
        "python -m bench.safety",
        "Each guard is measured with and without, in turns. Slot check: pgbench on two connections, against a scratch "
        "database whose `finish_and_claim` does not check its slot. Executors: one runner with one slot, against one "
        "that executes handlers in its own process. Pings: an idle runner that holds its slot, with the default grace "
        "(a ping every half second) and with a grace of an hour. Standbys: runner processes beside the one that holds "
        "the only slot.",
    )
    with Testbed(scale, {"max_connections": "300"}) as testbed:
        report.environment = testbed.describe()
        slot_check(scale, testbed, report)
        executors(scale, testbed, report)
        pings(scale, testbed, report)
        standbys(scale, testbed, report)
    return report


def slot_check(scale: Scale, testbed: Testbed, report: Report) -> None:
    unguarded = testbed.database("unguarded")
    text = unguarded.value("select pg_get_functiondef('lockgate.finish_and_claim'::regproc)")
    if CHECK not in text:
        raise RuntimeError("lockgate.finish_and_claim checks its slot in other words than this script expects")
    unguarded.owner.execute(text.replace(CHECK, "if false then").encode())
    with_check: list[float] = []
    without: list[float] = []
    for number_of_round in range(scale(7, 1)):
        progress(f"slot check, round {number_of_round + 1}")
        for database, rounds in ((testbed.main, with_check), (unguarded, without)):
            database.refill(MOST_PER_SECOND * scale(5, 3))
            rounds.append(pgbench(testbed, database, 2, seconds=scale(4, 2)).rate)
    table = report.table("slot check", "with, claims/s", "without, claims/s", "ratio")
    table.add("two connections", middle(with_check), middle(without), middle(ratios(with_check, without)))


def executors(scale: Scale, testbed: Testbed, report: Report) -> None:
    with_executors: list[Round] = []
    without: list[Round] = []
    for number_of_round in range(scale(5, 1)):
        progress(f"executors, round {number_of_round + 1}")
        with_executors.append(of_runners(testbed, 1, 1, 1, "noop", scale(5, 3)))
        without.append(of_runners(testbed, 1, 1, 1, "noop", scale(5, 3), module="bench.inline"))
    table = report.table(
        "no-ops on one slot", "tasks/s", "of that without executors", "CPU runner", "CPU executor", "CPU Postgres"
    )
    share = middle(ratios([one.rate for one in with_executors], [one.rate for one in without]))
    for title, rounds, of in (("in an executor", with_executors, share), ("in the runner", without, "1")):
        table.add(title, rates(rounds), of, cpu(rounds, "runners"), cpu(rounds, "executors"), cpu(rounds, "Postgres"))


def pings(scale: Scale, testbed: Testbed, report: Report) -> None:
    used: dict[float, list[dict[str, float]]] = {5.0: [], NEVER: []}
    for number_of_round in range(scale(3, 1)):
        for grace, rounds in used.items():
            progress(f"pings, grace {grace:g} s, round {number_of_round + 1}")
            testbed.main.refill(0)
            testbed.main.value(
                "select lockgate.change_queue('default', jsonb_build_object('slots', 1, 'grace', %s::float8))", grace
            )
            with testbed.runners(1, testbed.main) as started:
                rounds.append(idle(testbed, started, scale(10, 4)))
    testbed.main.value("select lockgate.change_queue('default', '{\"grace\": 5}')")
    table = report.table("idle, milliseconds of CPU a second", "runner", "Postgres")
    for grace, rounds in used.items():
        title = f"a ping every {grace / 10:g} s" if grace < NEVER else "no pings"
        table.add(title, *(middle([1000 * one[name] for one in rounds]) for name in ("runners", "Postgres")))


def standbys(scale: Scale, testbed: Testbed, report: Report) -> None:
    testbed.main.refill(0)
    testbed.main.value("select lockgate.set_slots('default', 1)")
    count, seconds = scale(100, 10), scale(30, 6)
    with ExitStack() as stack:
        holder = stack.enter_context(testbed.runners(1, testbed.main))
        time.sleep(2)
        alone = idle(testbed, holder, seconds)
        started: list[Program] = []
        while len(started) < count:
            progress(f"{len(started)} standbys of {count}")
            started += stack.enter_context(testbed.runners(5, testbed.main))
        time.sleep(scale(60, 5))  # until each has counted the standbys
        queries = statements(testbed.main)
        used = idle(testbed, started, seconds)
        queries = (statements(testbed.main) - queries) / seconds
        memory = sum(map(pss, [program.pid for program in started])) / count / 2**20
    server = used["Postgres"] - alone["Postgres"]
    percent = 100 * (used["runners"] + server) * 100 / count
    table = report.table("standbys", "CPU runners", "CPU Postgres", "queries/s", "memory of each (PSS)")
    table.add(
        str(count), f"{100 * used['runners']:.1f} % of a core", f"{100 * server:.1f} % of a core", number(queries),
        f"{memory:.0f} MiB",
    )  # fmt: skip
    scaled = "" if count == 100 else f", from {count}"
    report.target(f"a hundred standbys{scaled}", f"{percent:.1f} % of a core", "< 2 %", percent < 2)


def idle(testbed: Testbed, started: list[Program], seconds: float) -> dict[str, float]:
    """Returns seconds of CPU a second while the queue is empty."""
    meter = Meter({"runners": lambda: [program.pid for program in started], "Postgres": testbed.backends})
    time.sleep(seconds)
    return {name: spent / meter.elapsed for name, spent in meter.seconds().items()}


def statements(database: Database) -> float:
    """Returns the transactions so far; every statement of a runner is one."""
    return float(database.value("select xact_commit from pg_stat_database where datname = current_database()"))


if __name__ == "__main__":
    run(measure)
