"""What the run has shown, judged by the witness and the table."""

import statistics
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from lockgate.witness import Execution
from tests.chaos.field import Field

SETTLE = 2.0
"""Seconds for which a task may still begin under a number of slots that has been lowered since: claimed before, or a
slot taken in the same moment."""


@dataclass
class Verdict:
    tasks: int
    executions: int
    most: int
    too_many: list[Execution]
    lost: list[int]
    unended: int
    twice: list[int]
    failed: int
    again: list[float]

    @property
    def holds(self) -> bool:
        return not (self.too_many or self.lost or self.unended or self.twice or self.failed)

    def show(self, console: Console, faults: dict[str, int], seed: int) -> None:
        table = Table("fault", "times", title="Faults")
        for name, times in sorted(faults.items()):
            table.add_row(name, str(times))
        console.print(table)
        table = Table("", "", show_header=False, title=f"Seed {seed}")
        table.add_row("accepted tasks", str(self.tasks))
        table.add_row("executions", str(self.executions))
        table.add_row("most at once, by the witness", str(self.most))
        table.add_row("begun beyond the slots", str(len(self.too_many)))
        table.add_row("accepted and lost", str(len(self.lost)))
        table.add_row("without an end", str(self.unended))
        table.add_row("ended twice", str(len(self.twice)))
        table.add_row("failed", str(self.failed))
        if self.again:
            again = sorted(self.again)
            p99 = again[min(len(again) - 1, int(len(again) * 0.99))]
            middle = statistics.median(again)
            table.add_row("killed to executing again, s", f"median {middle:.2f}, p99 {p99:.2f}, max {again[-1]:.2f}")
        console.print(table)
        console.print("[green]The promise held." if self.holds else "[bold red]BROKEN.")


def judge(field: Field, kills: list[tuple[float, int]]) -> Verdict:
    """Judges a run whose faults are over and whose tasks have had their time to end."""
    executions = sorted(field.witness.executions, key=lambda execution: execution.begin)
    too_many = []
    most = 0
    for execution in executions:
        begin = execution.begin
        at_once = sum(1 for other in executions if other.begin <= begin and (other.end is None or other.end > begin))
        most = max(most, at_once)
        earlier = [number for time, number in field.slot_history if time <= begin - SETTLE]
        recent = [number for time, number in field.slot_history if begin - SETTLE < time <= begin]
        if at_once > max(earlier[-1:] + recent):
            too_many.append(execution)
    with field.owner() as owner:
        rows = owner.execute("select id, status::text from lockgate.task").fetchall()
        twice = [r[0] for r in owner.execute("select task from audit group by task having count(*) > 1")]
    statuses = dict(rows)
    again = []
    for killed, task in kills:
        begins = [e.begin for e in executions if e.task == task and e.begin > killed]
        if begins:
            again.append(min(begins) - killed)
    return Verdict(
        tasks=len(field.accepted),
        executions=len(executions),
        most=most,
        too_many=too_many,
        lost=[task for task in field.accepted if task not in statuses],
        unended=sum(status not in ("succeeded", "failed", "cancelled") for status in statuses.values()),
        twice=twice,
        failed=sum(status == "failed" for status in statuses.values()),
        again=again,
    )
