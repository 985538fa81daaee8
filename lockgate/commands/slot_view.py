"""How a slot looks: as a box, as a line, as a mark."""

from typing import NamedTuple

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lockgate.commands.seconds import spoken
from lockgate.commands.snapshot import Queue, Slot
from lockgate.commands.table import printable

BOX_WIDTH, BOX_HEIGHT, LINE_WIDTH = 26, 5, 36


class Marks(NamedTuple):
    """The letters of a terminal; those of one that has only ASCII are plain."""

    busy: str
    free: str
    standby: str


FINE, PLAIN = Marks("■", "□", "○"), Marks("#", ".", "o")


def line_of_marks(queue: Queue, marks: Marks) -> Text:
    return Text.assemble(*((marks.busy if slot.busy else marks.free, _style(slot, queue)) for slot in queue.slots))


def _style(slot: Slot, queue: Queue) -> str:
    if slot.abandoned:
        return "red"
    if slot.number > queue.slot_count:
        return "magenta"
    return "yellow" if slot.busy else "green"


def _remark(slot: Slot, queue: Queue) -> str:
    """Who has it, or what there is to say about it."""
    if slot.abandoned:
        return "its runner is gone"
    if slot.number > queue.slot_count:
        return "the last one in it"
    return slot.runner or ""


def slot_box(slot: Slot, queue: Queue) -> Panel:
    width = BOX_WIDTH - 4
    first = Table.grid(expand=True)
    first.add_column(no_wrap=True)
    first.add_column(no_wrap=True, justify="right")
    style = _style(slot, queue)
    if slot.busy:
        first.add_row(Text(f"task {slot.task}", "bold"), Text(spoken(slot.seconds), style))
    else:
        first.add_row(Text("free", style), Text("ready" if slot.held else "", style))
    kind = Text(printable(slot.kind or ""))
    kind.truncate(width, overflow="ellipsis")
    runner = Text(_end(printable(_remark(slot, queue)), width), "red" if slot.abandoned else "dim")
    return Panel(
        Group(first, kind, runner), title=f"slot {slot.number}", title_align="left", width=BOX_WIDTH,
        border_style=style if slot.busy else "dim", box=box.HEAVY if slot.busy else box.ROUNDED,
    )  # fmt: skip


def slot_lines(console: Console, queue: Queue, marks: Marks) -> Table:
    """A line per slot, in as many columns as there is room for, counted downwards."""
    across = max(1, console.width // LINE_WIDTH)
    down = -(-len(queue.slots) // across)
    digits = len(str(max((slot.number for slot in queue.slots), default=0)))
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(across):
        table.add_column(width=LINE_WIDTH - 2, no_wrap=True, overflow="ellipsis")
    lines = [_line(slot, queue, marks, digits) for slot in queue.slots]
    for row in range(down):
        table.add_row(*lines[row::down])
    return table


def _line(slot: Slot, queue: Queue, marks: Marks, digits: int) -> Text:
    style = _style(slot, queue)
    line = Text.assemble((f"{slot.number:>{digits}} ", "dim"), (marks.busy if slot.busy else marks.free, style), " ")
    if not slot.busy:
        return line.append("free", "dim")
    line.append(f"{slot.task} ", "bold").append(f"{spoken(slot.seconds)} ", style)
    return line.append("runner gone" if slot.abandoned else printable(slot.kind or ""))


def _end(text: str, width: int) -> str:
    """Return it cut to the width at its beginning: the names of runners differ at their ends."""
    return text if len(text) <= width else "…" + text[-(width - 1) :]
