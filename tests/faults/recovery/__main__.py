"""``python -m tests.faults.recovery``: how long it takes until work goes on after a fault; exit code 1 if too long."""

import signal
import sys
from collections.abc import Callable

import click
from rich.console import Console

from tests import proof
from tests.faults.recovery.away import away
from tests.faults.recovery.faults import faults
from tests.faults.recovery.figures import Figures, machine
from tests.faults.recovery.kill import kill
from tests.faults.recovery.restart import restart
from tests.faults.recovery.tree import tree


@click.group()
def main() -> None:
    """Measures recoveries on a server of its own, with the defaults of everything else."""


def measured(rounds: int, measure: Callable[[int], Figures]) -> None:
    @main.command(measure.__name__, help=measure.__doc__)
    @click.option("--rounds", type=click.IntRange(1, 10_000), default=rounds, show_default=True)
    @click.option("--details", is_flag=True, help="Also what the runner logged, and how long after the fault.")
    def command(rounds: int, details: bool) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending what was started
        console = Console(width=None if sys.stdout.isatty() else 120)  # else a pipe's 80
        figures = measure(rounds)
        figures.show(console, details)
        console.print(machine(), highlight=False)
        tasks = sum(int(row[1]) for row in figures.counted)
        proof.say(faults=figures.faults, tasks=tasks, breaches=len(figures.broken))
        sys.exit(1 if figures.broken else 0)


measured(30, kill)
measured(20, tree)
measured(5, restart)
measured(1, away)
measured(1, faults)


if __name__ == "__main__":
    main()
