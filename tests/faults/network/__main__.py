"""``python -m tests.faults.network``: how soon work goes on after each kind of cut; 1 if too late."""

import math
import sys

import click
from rich.console import Console

from tests import proof
from tests.faults.network import in_flight, partition
from tests.faults.network.network import NoNetwork
from tests.faults.network.scene import Scene, scene
from tests.faults.recovery.figures import Figures, machine

BOUNDS = {
    "its task executes elsewhere": 15.0,
    "its executor is dead": math.inf,  # before the task executes elsewhere, which is counted as a part of the promise
    "the server has no session of its host": 15.0,
}
"""What is measured from the cut on, and how many seconds it may take with the settings as they come."""


@click.command()
@click.option("--rounds", type=click.IntRange(1, 1000), default=10, show_default=True)
def main(rounds: int) -> None:
    """Parts runners from the database, with the defaults of everything, again and again."""
    console = Console()
    tables = {what: Figures(f"From the cut until {what}") for what in BOUNDS}
    promise, *_ = tables.values()
    seconds: dict[str, dict[str, list[float]]] = {what: {} for what in BOUNDS}
    try:
        with scene() as it:
            for number in range(rounds):
                console.print(f"round {number + 1} of {rounds}")
                measure(it, seconds, promise)
            judge(it, promise)
            tasks = it.q.db.value("select count(*) from lockgate.task")
    except NoNetwork as why:
        sys.exit(f"no network of our own: {why}")
    for what, table in tables.items():
        for kind, times in seconds[what].items():
            table.times(kind, times, most=BOUNDS[what])
        table.show(console, details=False)
    console.print(machine(), highlight=False)
    faults = rounds * (len(partition.KINDS) + len(in_flight.WHAT))
    proof.say(faults=faults, tasks=tasks, breaches=sum(len(table.broken) for table in tables.values()))
    sys.exit(any(table.broken for table in tables.values()))


def measure(it: Scene, seconds: dict[str, dict[str, list[float]]], promise: Figures) -> None:
    """One round of everything."""
    elsewhere, dead, gone = seconds.values()
    for name, parted in partition.play(it, long_only=True).items():
        promise.hold(parted.failure is None, f"{name}: {parted.failure}")
        if parted.failure is None:
            elsewhere.setdefault(name, []).append(parted.elsewhere)
            dead.setdefault(name, []).append(parted.dead)
            gone.setdefault(name, []).append(parted.gone)
            promise.hold(parted.dead <= parted.elsewhere, f"{name}: its executor outlived the start elsewhere")
    it.clear()
    for name, cut in in_flight.play(it, long_only=True).items():
        elsewhere.setdefault(name, []).append(cut.elsewhere)
        gone.setdefault(name, []).append(cut.gone)
    it.clear()


def judge(it: Scene, promise: Figures) -> None:
    """The promise, over all rounds."""
    slots = dict(it.q.db.query("select name, slots from lockgate.queue"))
    for queue, most in it.witness.most.items():
        promise.hold(most <= slots[queue], f"{queue}: {most} at once")
    promise.hold(not it.ended_twice(), f"ended twice: {it.ended_twice()}")
    left = it.q.db.value("select count(*) from lockgate.task where status <> 'succeeded'")
    promise.hold(left == 0, f"{left} tasks have not succeeded")


if __name__ == "__main__":
    main()
