"""``python -m tests.proof [PIECE...]``: the promise under faults at length, in pieces of at most 20 minutes.

Each piece is a command that can be repeated by its seed. Its figures become a row of docs/reliability.md, and the sums
of all rows are written anew. Exit code 1 if a piece found a breach or did not come to its end.
"""

import json
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
INTO = ROOT / "docs" / "reliability.md"
LIMIT = 1800.0
"""Seconds after which a piece that should take 20 minutes is ended."""

PIECES = {
    "chaos-2-slots": "tests.faults.chaos --minutes 15 --slots 2 --seed {seed}",
    "chaos-8-slots": "tests.faults.chaos --minutes 15 --slots 8 --concurrency 4 --seed {seed}",
    "failover": "tests.faults.failover --rounds 25 --seed {seed}",
    "failover-silent": "tests.faults.failover --rounds 10 --end silence --absent 4 --seed {seed}",
    "network": "tests.faults.network --rounds 10",
    "recovery-kill": "tests.faults.recovery kill --rounds 30",
    "recovery-tree": "tests.faults.recovery tree --rounds 12",
    "recovery-restart": "tests.faults.recovery restart --rounds 10",
    "recovery-away": "tests.faults.recovery away --rounds 5",
    "recovery-faults": "tests.faults.recovery faults --rounds 2",
    "rabbitmq": "tests.amqp",
    "soak": "bench.soak --tasks 800000",
}
"""By name, what Python is told to run. Most take 5 to 15 minutes."""

COLUMNS = ("date", "commit", "piece", "seed", "minutes", "faults", "tasks", "breaches")
HEAD = f"| {' | '.join(COLUMNS)} |"
SUM = "| all |"


def say(*, faults: int, tasks: int, breaches: int) -> None:
    """Prints the figures of a piece, which are read here."""
    click.echo("figures: " + json.dumps({"faults": faults, "tasks": tasks, "breaches": breaches}))


@click.command()
@click.argument("names", nargs=-1, metavar="[PIECE]...")
@click.option("--list", "only_list", is_flag=True, help="Print the pieces and their commands, and run nothing.")
@click.option("--seed", type=int, default=None, help="Of all pieces. [default: a new one for each]")
@click.option("--into", type=click.Path(path_type=Path, dir_okay=False), default=INTO, help="Where the rows go.")
def main(names: tuple[str, ...], only_list: bool, seed: int | None, into: Path) -> None:
    """Runs all pieces, or those whose names begin so ("recovery"), one after the other."""
    chosen = {name: command for name, command in PIECES.items() if not names or name.startswith(names)}
    if not chosen:
        raise click.UsageError(f"no piece is called {' or '.join(names)}; there are {', '.join(PIECES)}")
    if only_list:
        for name, command in chosen.items():
            click.echo(f"{name:<18} uv run python -m {command}")
        return
    broken = 0
    for name, command in chosen.items():
        row = run(name, command, secrets.randbelow(100_000) if seed is None else seed)
        into.write_text(added(into.read_text(), row))
        broken += row["breaches"] != "0"
    sys.exit(1 if broken else 0)


def run(name: str, command: str, seed: int) -> dict[str, str]:
    """Runs a piece; its row."""
    words = command.format(seed=seed).split()
    click.echo(f"\n== {name}: python -m {' '.join(words)}")
    begin = time.monotonic()
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            click.echo(line, nl=False)
            if time.monotonic() - begin > LIMIT:
                process.kill()
    faults, tasks, breaches = figures("".join(said), words)
    if process.returncode and breaches == "0":
        breaches = f"exit code {process.returncode}"
    return dict(
        zip(
            COLUMNS,
            (
                f"{datetime.now(UTC):%Y-%m-%d}", commit(), name, str(seed) if "{seed}" in command else "",
                f"{(time.monotonic() - begin) / 60:.0f}", faults, tasks, breaches,
            ),
            strict=True,
        )
    )  # fmt: skip


def figures(said: str, words: list[str]) -> tuple[str, str, str]:
    """Faults, tasks and breaches, of the lines that a piece has said."""
    if found := [json.loads(line) for line in re.findall(r"^figures: (.*)$", said, re.MULTILINE)]:
        sums: Counter[str] = sum((Counter(one) for one in found), Counter())
        return f"{sums['faults']:,}", f"{sums['tasks']:,}", f"{sums['breaches']:,}"
    if words[0] == "bench.soak" and "| met |" in said:
        return "0", f"{int(words[-1]):,}", str(len(re.findall(r"\| no \|$", said, re.MULTILINE)))
    return "", "", "no figures"


def commit() -> str:
    git = shutil.which("git") or "git"
    said = subprocess.run(
        [git, "describe", "--always", "--dirty=+", "--abbrev=7", "--exclude=*"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return said.stdout.strip() or "?"


def added(document: str, row: dict[str, str]) -> str:
    """The document with a row more in its table, and the sums of all rows in its last."""
    begin = document.index(HEAD)
    end = document.index(SUM, begin)
    rows = [*document[begin:end].splitlines()[2:], f"| {' | '.join(row.values())} |"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
    sums = [f"{sum(map(amount, column)):,}" for column in list(zip(*cells, strict=True))[COLUMNS.index("minutes") :]]
    rule = f"| {' | '.join('---' for _ in COLUMNS)} |"
    total = f"{SUM} | {len(rows)} pieces | | {' | '.join(sums)} |"
    return document[:begin] + "\n".join([HEAD, rule, *rows, total]) + document[document.index("\n", end) :]


def amount(cell: str) -> int:
    """What a cell adds to the sum of its column: words instead of a number are one breach."""
    return int(cell.replace(",", "")) if cell.replace(",", "").isdigit() else int(bool(cell))


if __name__ == "__main__":
    main()
