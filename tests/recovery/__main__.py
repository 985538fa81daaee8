"""``python -m tests.recovery``: how long it takes until work goes on after a fault; exit code 1 if too long."""

import sys
from collections.abc import Callable

import click
from rich.console import Console

from tests.recovery.figures import Figures, machine
from tests.recovery.kill import kill
from tests.recovery.tree import tree


@click.group()
def main() -> None:
    """Measures recoveries on a server of its own, with the defaults of everything else."""


def measured(rounds: int, measure: Callable[[int], Figures]) -> None:
    @main.command(measure.__name__, help=measure.__doc__)
    @click.option("--rounds", type=click.IntRange(1, 10_000), default=rounds, show_default=True)
    @click.option("--details", is_flag=True, help="Also what the runner logged, and how long after the fault.")
    def command(rounds: int, details: bool) -> None:
        console = Console()
        figures = measure(rounds)
        figures.show(console, details)
        console.print(machine(), highlight=False)
        sys.exit(1 if figures.broken else 0)


measured(30, kill)
measured(20, tree)


if __name__ == "__main__":
    main()
