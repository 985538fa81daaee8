"""Times that were measured, and the bounds they are held against."""

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from lockgate.postgres import binaries
from tests.system import Supervised

COUNTS = ("", "tasks", "lost", "failed", "ended twice", "executed again", "most at once")
TIMES = ("seconds", "rounds", "median", "p99", "max", "bound")


@dataclass
class Laps:
    """How long each round took, and how long after the fault each thing was logged."""

    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seconds: float, teller: Supervised, since: float) -> None:
        """A round that began at `since`, by time.time(); `teller`: whose log tells how it went."""
        self.seconds.append(seconds)
        for event, later in teller.told(since):
            if later <= seconds:
                self.stages.setdefault(event, []).append(later)


@dataclass
class Figures:
    """One table, and what in it is out of bounds."""

    title: str
    columns: Sequence[str] = TIMES
    rows: list[Sequence[str]] = field(default_factory=list)
    details: list[Sequence[str]] = field(default_factory=list)
    """Rows that are only shown when asked for."""

    counted: list[Sequence[str]] = field(default_factory=list)
    """Rows of COUNTS."""

    broken: list[str] = field(default_factory=list)
    faults: int = 0

    def times(self, what: str, seconds: Sequence[float], most: float = math.inf, middle: float = math.inf) -> None:
        """A row of median, p99 and maximum. `most`, `middle`: what the maximum and the median may be."""
        bounds = [f"{name} ≤ {bound:g}" for name, bound in (("median", middle), ("max", most)) if bound < math.inf]
        self.rows.append([*described(what, seconds), ", ".join(bounds)])
        self.hold(statistics.median(seconds) <= middle, f"{what}: median {statistics.median(seconds):.2f} s")
        self.hold(max(seconds) <= most, f"{what}: {max(seconds):.2f} s")

    def stages(self, laps: Laps) -> None:
        """What was logged on the way, the earliest first."""
        ordered = sorted(laps.stages.items(), key=lambda stage: statistics.median(stage[1]))
        self.details += [[*described(f"… {event}", later), ""] for event, later in ordered]

    def counts(self, what: str, **numbers: int) -> None:
        """Numbers of one run, under what they count."""
        self.counted.append([what, *map(str, numbers.values())])

    def hold(self, holds: bool, otherwise: str) -> None:
        """Something that must be so; `otherwise`: what it is instead, in words."""
        if not holds:
            self.broken.append(otherwise)

    def show(self, console: Console, details: bool) -> None:
        table = Table(*self.columns, title=self.title, title_justify="left")
        for row in [*self.rows, *(self.details if details else ())]:
            table.add_row(*row)
        console.print(table)
        if self.counted:
            table = Table(*COUNTS)
            for row in self.counted:
                table.add_row(*row)
            console.print(table)
        for line in self.broken:
            console.print(f"[bold red]out of bounds:[/] {line}", highlight=False)


def described(what: str, seconds: Sequence[float]) -> list[str]:
    """One row of TIMES, its bound left out."""
    ordered = sorted(seconds)
    p99 = ordered[math.ceil(len(ordered) * 0.99) - 1]
    return [what, str(len(seconds)), f"{statistics.median(seconds):.2f}", f"{p99:.2f}", f"{ordered[-1]:.2f}"]


def machine() -> str:
    """What this is measured on, in one line."""
    postgres = subprocess.run(
        [binaries.find() / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=True
    ).stdout.split()[-1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]},"
        f" Python {platform.python_version()}, PostgreSQL {postgres}"
    )
