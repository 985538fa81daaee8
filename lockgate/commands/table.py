"""How tables and durations look: a table on a terminal, aligned lines elsewhere."""

import re
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import click

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PATTERN = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|[smhd])?")
YEARS = 315360000.0  # ten of them, the longest duration anything here may have

GAP = 2  # letters between columns


def printable(text: str) -> str:
    """Return it without what would move the cursor or change colours: kinds and errors come from anybody."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def show(
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    right: Collection[str],
    styles: Sequence[str | None],
    spare: Sequence[str] = (),
) -> None:
    """Print the rows; a float is a duration in seconds.

    `right`: heads of the columns that are numbers; `styles`: of each row, on a terminal; `spare`: heads of columns
    that a narrow terminal does without, in this order.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    columns = {head: list(column) for head, *column in zip(heads, *cells, strict=True)}
    widths = {head: max(map(len, (head, *column))) for head, column in columns.items()}
    if sys.stdout.isatty():
        _show_table(columns, widths, right, styles, spare)
        return
    for row in (heads, *cells):
        aligned = [
            cell.rjust(widths[head]) if head in right else cell.ljust(widths[head])
            for cell, head in zip(row, heads, strict=True)
        ]
        click.echo("  ".join(aligned).rstrip())


def _cell(value: object) -> str:
    return spoken(value) if isinstance(value, float | None) else printable(str(value))


def show_json(rows: Iterable[tuple[str]]) -> None:
    """Print rows of one column as they are."""
    for (line,) in rows:
        click.echo(line)


def _show_table(
    columns: dict[str, list[str]],
    widths: dict[str, int],
    right: Collection[str],
    styles: Sequence[str | None],
    spare: Sequence[str],
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for head in spare:
        if sum(widths.values()) + GAP * len(widths) > console.width:
            del widths[head], columns[head]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    fit = fitting(list(widths.values()), console.width - GAP * len(widths))
    for head, width in zip(columns, fit, strict=True):
        justify: Literal["left", "right"] = "right" if head in right else "left"
        table.add_column(Text(head), justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for row, style in zip(zip(*columns.values(), strict=True), styles, strict=True):
        table.add_row(*map(Text, row), style=style)
    console.print(table)


def fitting(widths: Sequence[int], room: int) -> list[int]:
    """Return the widths with the widest made narrower until all have room together."""
    fit = list(widths)
    while sum(fit) > max(room, len(fit)):
        fit[fit.index(max(fit))] -= 1
    return fit


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A number of seconds, or one with a unit: 90, 1.5s, 15m, 2h, 7d. Where `none` may be said, that is None."""

    name = "duration"

    def __init__(self, least: float, most: float, more_than_least: bool = False, none: bool = False) -> None:
        self._least = least
        self._most = most
        self._more = more_than_least
        self._none = none

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        text = str(value).strip().lower()
        if self._none and text == "none":
            return None
        found = PATTERN.fullmatch(text)
        if not found:
            also = ", or none" if self._none else ""
            self.fail(f"{value!r} is no duration: give seconds, or such as 90s, 15m, 2h, 7d{also}.", param, ctx)
        seconds = float(found[1]) * UNITS[found[2] or "s"]
        if not self._least <= seconds <= self._most or (self._more and seconds == self._least):
            least = f"more than {self._least:g}" if self._more else f"{self._least:g}"
            self.fail(f"{value} is not in the range from {least} to {self._most:.0f} seconds.", param, ctx)
        return seconds


def spoken(seconds: float | None) -> str:
    """Return it short: 0.4 s, 12 s, 3 min, 2 h, 5 d; nothing for None."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for limit, length, unit in ((100, 1, "s"), (5970, 60, "min"), (48 * 3600, 3600, "h")):
        if round(seconds) < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
