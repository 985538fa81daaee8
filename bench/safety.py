"""``python -m bench.safety``: what the guards cost, and those who only stand by."""

import time
from contextlib import ExitStack

from bench.answer import Answer, middle, number, ratios
from bench.ground import Database, Ground, Program, Scale
from bench.pgbench import pgbench
from bench.processes import Meter, pss
from bench.script import run, say
from bench.throughput import MOST_PER_SECOND, Round, cpu, of_runners, rates

CHECK = "if not lockgate.keep_slot(p_queue, p_slot) then"
NEVER = 3600.0
"""Seconds of grace with which a runner pings every six minutes."""


def measure(scale: Scale) -> Answer:
    """The slot check, the pings and the executors, with and without; and a hundred runners that stand by."""
    answer = Answer(
        "7. The cost of safety",
        "python -m bench.safety",
        "Each guard is measured with and without, in turns. Slot check: pgbench on two connections, against a scratch "
        "database whose `finish_and_claim` does not check its slot. Executors: one runner with one slot, against one "
        "that executes handlers in its own process. Pings: an idle runner that holds its slot, with the default grace "
        "(a ping every half second) and with a grace of an hour. Standbys: runner processes beside the one that holds "
        "the only slot.",
    )
    with Ground(scale, {"max_connections": "300"}) as ground:
        answer.ground = ground.said()
        slot_check(scale, ground, answer)
        executors(scale, ground, answer)
        pings(scale, ground, answer)
        standbys(scale, ground, answer)
    return answer


def slot_check(scale: Scale, ground: Ground, answer: Answer) -> None:
    unguarded = ground.database("unguarded")
    text = unguarded.value("select pg_get_functiondef('lockgate.finish_and_claim'::regproc)")
    if CHECK not in text:
        raise RuntimeError("lockgate.finish_and_claim checks its slot in other words than this script expects")
    unguarded.owner.execute(text.replace(CHECK, "if false then").encode())
    with_check: list[float] = []
    without: list[float] = []
    for number_of_round in range(scale(7, 1)):
        say(f"slot check, round {number_of_round + 1}")
        for database, rounds in ((ground.main, with_check), (unguarded, without)):
            database.refill(MOST_PER_SECOND * scale(5, 3))
            rounds.append(pgbench(ground, database, 2, seconds=scale(4, 2)).rate)
    table = answer.table("slot check", "with, claims/s", "without, claims/s", "ratio")
    table.add("two connections", middle(with_check), middle(without), middle(ratios(with_check, without)))


def executors(scale: Scale, ground: Ground, answer: Answer) -> None:
    with_executors: list[Round] = []
    without: list[Round] = []
    for number_of_round in range(scale(5, 1)):
        say(f"executors, round {number_of_round + 1}")
        with_executors.append(of_runners(ground, 1, 1, 1, "noop", scale(5, 3)))
        without.append(of_runners(ground, 1, 1, 1, "noop", scale(5, 3), module="bench.handless"))
    table = answer.table(
        "no-ops on one slot", "tasks/s", "of that without executors", "CPU runner", "CPU executor", "CPU Postgres"
    )
    share = middle(ratios([one.rate for one in with_executors], [one.rate for one in without]))
    for title, rounds, of in (("in an executor", with_executors, share), ("in the runner", without, "1")):
        table.add(title, rates(rounds), of, cpu(rounds, "runners"), cpu(rounds, "executors"), cpu(rounds, "Postgres"))


def pings(scale: Scale, ground: Ground, answer: Answer) -> None:
    used: dict[float, list[dict[str, float]]] = {5.0: [], NEVER: []}
    for number_of_round in range(scale(3, 1)):
        for grace, rounds in used.items():
            say(f"pings, grace {grace:g} s, round {number_of_round + 1}")
            ground.main.refill(0)
            ground.main.value(
                "select lockgate.change_queue('default', jsonb_build_object('slots', 1, 'grace', %s::float8))", grace
            )
            with ground.runners(1, ground.main) as started:
                rounds.append(idle(ground, started, scale(10, 4)))
    ground.main.value("select lockgate.change_queue('default', '{\"grace\": 5}')")
    table = answer.table("idle, milliseconds of CPU a second", "runner", "Postgres")
    for grace, rounds in used.items():
        title = f"a ping every {grace / 10:g} s" if grace < NEVER else "no pings"
        table.add(title, *(middle([1000 * one[name] for one in rounds]) for name in ("runners", "Postgres")))


def standbys(scale: Scale, ground: Ground, answer: Answer) -> None:
    ground.main.refill(0)
    ground.main.value("select lockgate.set_slots('default', 1)")
    count, seconds = scale(100, 10), scale(30, 6)
    with ExitStack() as stack:
        holder = stack.enter_context(ground.runners(1, ground.main))
        time.sleep(2)
        alone = idle(ground, holder, seconds)
        started: list[Program] = []
        while len(started) < count:
            say(f"{len(started)} standbys of {count}")
            started += stack.enter_context(ground.runners(5, ground.main))
        time.sleep(scale(60, 5))  # until each has seen how many they are
        queries = statements(ground.main)
        used = idle(ground, started, seconds)
        queries = (statements(ground.main) - queries) / seconds
        memory = sum(map(pss, [program.pid for program in started])) / count / 2**20
    server = used["Postgres"] - alone["Postgres"]
    percent = 100 * (used["runners"] + server) * 100 / count
    table = answer.table("standbys", "CPU runners", "CPU Postgres", "queries/s", "memory of each (PSS)")
    table.add(
        str(count), f"{100 * used['runners']:.1f} % of a core", f"{100 * server:.1f} % of a core", number(queries),
        f"{memory:.0f} MiB",
    )  # fmt: skip
    scaled = "" if count == 100 else f", from {count}"
    answer.target(f"a hundred standbys{scaled}", f"{percent:.1f} % of a core", "< 2 %", percent < 2)


def idle(ground: Ground, started: list[Program], seconds: float) -> dict[str, float]:
    """Seconds of CPU a second while nothing is to be done."""
    meter = Meter({"runners": lambda: [program.pid for program in started], "Postgres": ground.backends})
    time.sleep(seconds)
    return {name: spent / meter.elapsed for name, spent in meter.seconds().items()}


def statements(database: Database) -> float:
    """Committed so far; every statement of a runner is a transaction."""
    return float(database.value("select xact_commit from pg_stat_database where datname = current_database()"))


if __name__ == "__main__":
    run(measure)
