"""``python -m tests.chaos``: faults at random from a seed, and whether the promise held."""

import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import click
import psycopg
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lockgate.witness import Witness
from tests.chaos import faults
from tests.chaos.field import Field
from tests.chaos.verdict import judge
from tests.contract import until

ENDING = 120.0
"""Seconds in which all tasks have to end once the faults are over."""


@click.command()
@click.option("--minutes", type=click.FloatRange(0.1, 600), default=1.0, show_default=True, help="Of faults.")
@click.option("--seed", type=int, default=None, help="Of everything that is random. [default: a new one, printed]")
@click.option("--slots", type=click.IntRange(1, 100), default=2, show_default=True)
@click.option("--runners", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 100), default=1, show_default=True)
@click.option("--grace", type=click.FloatRange(1, 60), default=2.0, show_default=True, help="Of the queue, in seconds.")
@click.option("--pause", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds between faults.")
@click.option("--faults", "names", multiple=True, help="Only these. [default: all]")
@click.option("--keep", is_flag=True, help="Keep the folder with logs and data.")
def main(
    minutes: float,
    seed: int | None,
    slots: int,
    runners: int,
    concurrency: int,
    grace: float,
    pause: float,
    names: tuple[str, ...],
    keep: bool,
) -> None:
    """Breaks what can be broken for a while, then judges: exit code 0 only if nothing of the promise was broken."""
    if unknown := set(names) - set(faults.FAULTS):
        raise click.UsageError(f"no such fault: {', '.join(unknown)}; there are {', '.join(faults.FAULTS)}")
    seed = secrets.randbelow(100_000) if seed is None else seed
    console = Console()
    console.print(f"seed {seed}: {minutes} minutes, {slots} slots, {runners} runners with {concurrency} hands each")
    folder = Path(tempfile.mkdtemp(prefix="lockgate-chaos-", dir="/tmp"))
    folder.chmod(0o755)
    chosen = list(names or faults.FAULTS)
    dice = random.Random(seed)
    counts: Counter[str] = Counter()
    try:
        with Witness() as witness, Field(folder, seed, slots, runners, concurrency, grace, witness) as field:
            until(lambda: witness.executions, "the first execution", 30)
            end = time.monotonic() + minutes * 60
            with Live(console=console, refresh_per_second=2) as live:
                while time.monotonic() < end:
                    name = dice.choice(chosen)
                    counts[name] += 1
                    live.update(picture(field, counts, name, end - time.monotonic()))
                    faults.FAULTS[name](field, dice)
                    time.sleep(dice.uniform(0.2, 1.8) * pause)
                    live.update(picture(field, counts, "", end - time.monotonic()))
            field.done.set()
            with suppress(AssertionError):
                until(lambda: all_ended(field), "every task to end", ENDING, 0.5)
            verdict = judge(field, faults.KILLS)
        verdict.show(console, dict(counts), seed)
        for execution in verdict.too_many:
            console.print(f"beyond the slots: {execution}")
    finally:
        if keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if verdict.holds else 1)


def all_ended(field: Field) -> bool:
    with suppress(psycopg.Error), field.owner() as owner:
        row = owner.execute(
            "select count(*) from lockgate.task where status in ('scheduled', 'queued', 'running')"
        ).fetchone()
        return row == (0,)
    return False


def picture(field: Field, counts: Counter[str], name: str, left: float) -> Table:
    table = Table(title=f"{left:.0f} s of faults left", show_header=False)
    current = field.witness.current()
    table.add_row("now", name or "(a pause)")
    table.add_row("faults so far", str(counts.total()))
    table.add_row("accepted", str(len(field.accepted)))
    table.add_row("executions", str(len(field.witness.executions)))
    table.add_row(
        "executing", ", ".join(f"{e.task} ({time.monotonic() - e.begin:.1f} s)" for e in current) or "nothing"
    )
    table.add_row("most at once", str(field.witness.most.get("default", 0)))
    return table


if __name__ == "__main__":
    main()
