"""What recovery is measured on: a system with the defaults of everything, supervised runners, and how it is counted."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lockgate.postgres.server import Server
from lockgate.witness import Witness
from tests import server
from tests.faults.recovery.figures import Figures
from tests.system import LIMIT, Supervised, System

GRACE = 5.0
"""Seconds, the default: all that is measured here is measured with the defaults."""


class Ground(System[Server]):
    """A system on a server of its own."""

    slots = 0

    def begin(self, number: int, **settings: str) -> list[Supervised]:
        """Starts so many more `lockgate run`, and waits until each has a session."""
        new = [self.start(**settings) for _ in range(number)]
        for one in new:
            one.says("connected", LIMIT)
        return new

    def cancel_rest(self) -> None:
        """Takes back what has not begun, stops what would take ever so long, and waits until nothing runs any more."""
        self.insist(CANCEL)
        self.all_end()

    def count(self, figures: Figures, faults: int, name: str = "", again: int | None = None) -> None:
        """What the promise says, of all tasks so far, after so many faults. `again`: how many may have executed more
        than once, if any."""
        figures.faults += faults
        [(tasks, lost, failed, stopped)] = self.insist(COUNTS)
        ends = self.ends()
        twice = len(ends) - len(set(ends))
        most = max(self.witness.most.values())
        leases = [execution.lease for execution in self.witness.executions]
        figures.counts(name, tasks=tasks, lost=lost, failed=failed, twice=twice, again=stopped, most=most)
        figures.hold(lost == 0, f"{name} {lost} tasks without their result")
        figures.hold(failed == 0, f"{name} {failed} tasks failed")
        figures.hold(twice == 0, f"{name} {twice} tasks ended twice")
        figures.hold(again is None or stopped <= again, f"{name} {stopped} tasks were stopped")
        figures.hold(len(leases) == len(set(leases)), f"{name} one claim executed twice")
        figures.hold(most <= self.slots, f"{name} {most} executed at once, on {self.slots} slots")


@contextmanager
def ground(slots: int, settings: Mapping[str, str] = {}) -> Iterator[Ground]:
    """`settings`: of the server."""
    with (
        server.of_its_own(settings) as own,
        Witness() as witness,
        Ground(own, witness, handlers="tests.faults.recovery.handlers", patience=2) as made,
    ):
        made.slots = slots
        made.insist("select lockgate.set_slots('default', %s)", slots)
        yield made


CANCEL = """
select lockgate.cancel(id, force => true) from lockgate.task
where status in ('scheduled', 'queued') or (status = 'running' and kind = 'once')
"""

# `brief` returns its number.
COUNTS = """
select count(*),
  count(*) filter (where status = 'succeeded' and kind = 'brief' and result is distinct from to_jsonb(id)
                   or status in ('scheduled', 'queued', 'running')),
  count(*) filter (where status = 'failed'),
  count(*) filter (where attempt > 1)
from lockgate.task
"""


def pause(seconds: float) -> None:
    """The length of something, not a wait for anything."""
    time.sleep(max(0.0, seconds))
