"""The result of a script as Markdown, for the terminal and docs/performance.md."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """A table of text."""

    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        self.rows.append([cell if isinstance(cell, str) else number(cell) for cell in cells])

    def markdown(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        padded = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        rule = " | ".join("-" * max(width, 3) for width in widths)
        return "\n".join(f"| {line} |" for line in [padded[0], rule, *padded[1:]])


@dataclass
class Report:
    """The figures of one question, each beside its target."""

    question: str
    command: str
    how: str
    """A description of the measurement and its reference, in a few sentences."""

    environment: list[str] = field(default_factory=list)
    """Machine, programs, disk, server."""

    tables: list[Table] = field(default_factory=list)
    targets: Table = field(default_factory=lambda: Table(("figure", "measured", "target", "met")))

    @property
    def heading(self) -> str:
        return f"## {self.question}"

    def table(self, *columns: str) -> Table:
        self.tables.append(Table(columns))
        return self.tables[-1]

    def target(self, figure: str, measured: str, target: str, met: bool) -> None:
        self.targets.add(figure, measured, target, "yes" if met else "no")

    def markdown(self) -> str:
        parts = [self.heading, f"`{self.command}`", self.how, *(table.markdown() for table in self.tables)]
        if self.targets.rows:
            parts.append(self.targets.markdown())
        parts.append("\n".join(f"- {line}" for line in self.environment))
        return "\n\n".join(parts) + "\n"


def number(value: object) -> str:
    """Formats a number with three significant digits and thousands separators."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def middle(values: Sequence[float]) -> str:
    """Formats median and range: "812 (790 to 840)"."""
    if len(values) == 1:
        return number(float(values[0]))
    return f"{number(float(statistics.median(values)))} ({number(float(min(values)))} to {number(float(max(values)))})"


def ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """Divides round by round, so that a slow round does not count."""
    return [value / reference for value, reference in zip(values, references, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
