"""``python -m tests.faults.failover``: the primary dies under load, again and again; what breaks."""

import secrets
import statistics
import sys
from typing import get_args

import click
from rich.console import Console
from rich.table import Table

from lockgate.witness import Witness
from tests import proof, server
from tests.faults.failover.field import End, Field, Round
from tests.faults.failover.pair import Pair


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seed", type=int, default=None, help="Of the moments and the tasks. [default: a new one, printed]")
@click.option("--slots", type=click.IntRange(1, 100), default=2, show_default=True)
@click.option("--runners", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--grace", type=click.FloatRange(1, 60), default=5.0, show_default=True, help="Of the queue, in seconds.")
@click.option(
    "--absent", type=click.FloatRange(0), default=0.0, show_default=True,
    help="Seconds between a death and the promotion: what your fail-over tool needs to be sure.",
)  # fmt: skip
@click.option(
    "--end", type=click.Choice(get_args(End)), default="kill", show_default=True,
    help="How the primary goes: killed, silent without a word, or stopped in order.",
)  # fmt: skip
def main(rounds: int, seed: int | None, slots: int, runners: int, grace: float, absent: float, end: End) -> None:
    """Fails over to a synchronous standby under load. Exit code 0 only if nothing of the promise was broken."""
    seed = secrets.randbelow(100_000) if seed is None else seed
    console = Console()
    console.print(f"seed {seed}: {rounds} rounds, {slots} slots, {runners} runners, grace {grace:g} s")
    with (
        server.folder() as folder,
        Pair(folder) as pair,
        Witness() as witness,
        Field(pair, witness, seed, slots=slots, runners=runners, grace=grace) as field,
    ):
        done = [field.fail_over(end, absent) for _ in range(rounds)]
        breaches = field.breaches()
    console.print(picture(done))
    refused = ", ".join(f"{times} times {what}" for what, times in field.refusals.items()) or "never"
    console.print(
        f"{len(field.accepted)} tasks accepted, {len(witness.executions)} executions, "
        f"at most {max(witness.most.values())} at once; refused: {refused}"
    )
    for what, which in breaches.items():
        console.print(f"[bold red]{what}: {which}")
    proof.say(faults=rounds, tasks=len(field.accepted), breaches=len(breaches))
    if not breaches:
        console.print("[green]The promise held.")
    sys.exit(1 if breaches else 0)


def picture(done: list[Round]) -> Table:
    table = Table("round", "standby promoted", "a task accepted", "a task begun", "attempts interrupted")
    for column in table.columns[1:]:
        column.justify = "right"
    for number, each in enumerate(done, 1):
        table.add_row(
            str(number), f"{each.promoted:.2f} s", f"{each.accepted:.2f} s", f"{each.began:.2f} s",
            str(each.interrupted),
        )  # fmt: skip
    moments = zip(*((each.promoted, each.accepted, each.began) for each in done), strict=True)
    medians = [statistics.median(figures) for figures in moments]
    table.add_section()
    table.add_row("median", *(f"{figure:.2f} s" for figure in medians), str(sum(each.interrupted for each in done)))
    return table


if __name__ == "__main__":
    main()
