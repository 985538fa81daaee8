"""``python -m tests.faults.chaos``: faults at random from a seed, and whether the promise held."""

import random
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from lockgate.witness import Witness
from tests import proof
from tests.faults.chaos.disk import Disk
from tests.faults.chaos.faults import FAULTS, restore
from tests.faults.chaos.field import Field
from tests.faults.chaos.record import Breach, Injection
from tests.faults.chaos.supervised import soon
from tests.faults.chaos.verdict import judge
from tests.faults.chaos.view import View

BEGINNING = 180.0
"""Seconds until the first execution."""

ENDING = 120.0
"""Seconds in which all tasks have to end once the faults are over."""

TIMES = {"kill-runner": 3, "kill-supervisor": 2}
"""How often these come in a round; the others once. The more kills, the more the figures about them say."""

TWO_AT_ONCE = 0.3
"""How often a fault gets company."""

EPILOG = "Faults (`--faults list` says what each does): " + ", ".join(FAULTS) + "."


@click.command(epilog=EPILOG)
@click.option("--minutes", type=click.FloatRange(0.1, 600), default=1.0, show_default=True, help="Of faults.")
@click.option("--seed", type=int, default=None, help="Of everything that is random. [default: a new one, printed]")
@click.option("--slots", type=click.IntRange(1, 100), default=2, show_default=True)
@click.option("--runners", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 100), default=1, show_default=True)
@click.option("--grace", type=click.FloatRange(1, 60), default=2.0, show_default=True, help="Of the queue, in seconds.")
@click.option("--pause", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds between faults.")
@click.option("--faults", "names", multiple=True, metavar="NAME", help="Only these; `list` says which. [default: all]")
@click.option("--keep", is_flag=True, help="Keep the folder with logs and tables, also if the promise held.")
@click.pass_context
def main(
    ctx: click.Context, /, minutes: float, seed: int | None, names: tuple[str, ...], keep: bool, **given: Any
) -> None:
    """Breaks what can be broken for a while, then judges: exit code 0 only if nothing of the promise was broken."""
    if "list" in names:
        for name, fault in FAULTS.items():
            click.echo(f"{name:<20} {fault.__doc__}")
        return
    if unknown := set(names) - set(FAULTS):
        raise click.UsageError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    seed = secrets.randbelow(100_000) if seed is None else seed
    console = Console()
    again = command(ctx, seed)
    console.print(f"$ {again}", markup=False, highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="lockgate-chaos-", dir="/tmp"))
    folder.chmod(0o755)
    disk = Disk(folder / "data")
    try:
        breaches = run(console, folder, disk, minutes, seed, list(names or FAULTS), given)
        keep = keep or bool(breaches)
    except Exception:
        keep = True
        raise
    finally:
        disk.close()
        if keep:
            console.print(f"Logs and tables: {folder}", highlight=False)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    console.print(f"Seed {seed}; once more: {again}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1 if breaches else 0)


def command(ctx: click.Context, seed: int) -> str:
    """The command line that repeats this run."""
    words = ["uv", "run", "python", "-m", "tests.faults.chaos"]
    for parameter in ctx.command.params:
        name = str(parameter.name)
        if name == "seed":
            words += ["--seed", str(seed)]
        elif ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = ctx.params[name]
            for each in value if isinstance(value, tuple) else [value]:
                words += [parameter.opts[0]] if each is True else [parameter.opts[0], str(each)]
    return shlex.join(words)


def run(
    console: Console, folder: Path, disk: Disk, minutes: float, seed: int, chosen: list[str], given: dict[str, Any]
) -> list[Breach]:
    """One run, shown; what was broken."""
    pause = given.pop("pause")
    cannot = {"disk-full": disk.refused} if disk.refused and "disk-full" in chosen else {}
    chosen = [name for name in chosen if name not in cannot]
    for name, why in cannot.items():
        console.print(f"{name} cannot run here: {why}", style="yellow", markup=False)
    with Witness() as witness, Field(folder, disk, witness, seed=seed, **given) as field, ThreadPoolExecutor(2) as pool:
        try:
            with View(console, field, seed) as view:
                view.enter("waiting for the first execution")
                if not soon(lambda: bool(witness.executions), BEGINNING):
                    field.breach("nothing executes", f"within {BEGINNING:.0f} s of the start")
                elif chosen:
                    inject(field, view, pool, steps(chosen, seed), pause, minutes * 60)
                restore(field)
                view.enter("faults are over; waiting for every task to end")
                field.wind_up(ENDING)
            breaches = [*judge(field.record), *proves_nothing(field)]
            field.record.write(folder)
            (folder / "breaches.txt").write_text("".join(f"{breach.what}: {breach.how}\n" for breach in breaches))
            view.conclude(field.record, breaches, chosen, cannot)
            effects = sum(injection.effect is not None for injection in field.record.injections)
            proof.say(faults=effects, tasks=len(field.record.accepted), breaches=len(breaches))
        finally:
            field.over.set()
    return breaches


def steps(chosen: list[str], seed: int) -> Iterator[list[tuple[str, random.Random]]]:
    """Rounds of all faults in random order, one at a time or two, each with dice of its own: the same for a seed,
    however long each of them takes."""
    dice = random.Random(seed)
    while True:
        names = [name for name in chosen for _ in range(TIMES.get(name, 1))]
        dice.shuffle(names)
        while names:
            count = 2 if dice.random() < TWO_AT_ONCE and len({*names[:2]}) == 2 else 1
            yield [(name, random.Random(dice.random())) for name in names[:count]]
            names = names[count:]


def inject(
    field: Field,
    view: View,
    pool: ThreadPoolExecutor,
    plan: Iterator[list[tuple[str, random.Random]]],
    pause: float,
    seconds: float,
) -> None:
    """Injects one fault after another, or two at once, for so many seconds.

    Raises whatever a fault raises that it should not.
    """
    end = time.monotonic() + seconds
    for step in plan:
        if time.monotonic() >= end:
            return
        view.phase = f"{end - time.monotonic():.0f} s of faults left"
        view.now = dict.fromkeys((name for name, _ in step), time.monotonic())
        under_way: list[Future[Injection]] = [pool.submit(one, field, name, dice) for name, dice in step]
        for future in under_way:
            injection = future.result()
            field.record.injections.append(injection)
            view.say(injection)
        view.now = {}
        time.sleep(step[0][1].uniform(0.2, 1.8) * pause)


def one(field: Field, name: str, dice: random.Random) -> Injection:
    fault: Callable[[Field, random.Random], str | None] = FAULTS[name]
    begin = time.monotonic()
    effect = fault(field, dice)
    return Injection(name, begin, time.monotonic(), effect)


def proves_nothing(field: Field) -> list[Breach]:
    """A run that broke nothing, or executed nothing, must not look like one that held."""
    if not any(injection.effect for injection in field.record.injections):
        return [Breach("no fault took effect", f"of {len(field.record.injections)}")]
    return []


if __name__ == "__main__":
    main()
