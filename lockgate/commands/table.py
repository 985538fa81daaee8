"""Rows for people: a table on a terminal, aligned lines elsewhere."""

import sys
from collections.abc import Collection, Sequence
from typing import Literal

import click

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
    """Print the rows.

    `right`: heads of the columns that are numbers; `styles`: of each row, on a terminal; `spare`: heads of columns
    that a narrow terminal does without, in this order.
    """
    cells = [["" if value is None else printable(str(value)) for value in row] for row in rows]
    columns = {head: list(column) for head, *column in zip(heads, *cells, strict=True)}
    if sys.stdout.isatty():
        _show_table(columns, right, styles, spare)
        return
    widths = {head: max(map(len, (head, *column))) for head, column in columns.items()}
    for row in (heads, *cells):
        aligned = [
            cell.rjust(widths[head]) if head in right else cell.ljust(widths[head])
            for cell, head in zip(row, heads, strict=True)
        ]
        click.echo("  ".join(aligned).rstrip())


def _show_table(
    columns: dict[str, list[str]], right: Collection[str], styles: Sequence[str | None], spare: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widths = {head: max(map(len, (head, *column))) for head, column in columns.items()}
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
