"""Reports of handlers that execute, on their way to the table: progress and output."""

import psycopg
import structlog

from lockgate_runner import db
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.output import Printed
from lockgate_runner.session import Session
from lockgate_runner.slot import Slot

EVERY = 0.5
"""Seconds between two stored reports of one task, and between two writes of output."""

log = structlog.get_logger()


class Reports:
    """Stores the latest progress of each slot and the tail of each output, each twice a second at the most."""

    def __init__(self, runner: str) -> None:
        self._runner = runner
        self._printed: list[Printed] = []
        self._output_from = 0.0

    def printed(self, printed: Printed) -> None:
        self._printed.append(printed)

    def times(self, slots: list[Slot]) -> list[float]:
        """Returns when there will be something to store."""
        times = [slot.progress_from for slot in slots if slot.progress is not None and slot.executing]
        return [*times, self._output_from] if self._printed else times

    async def store(self, session: Session, slots: list[Slot]) -> None:
        """Stores what is due. A report that the database refuses is lost."""
        now = watchdog.now()
        try:
            for slot in slots:
                if slot.executing and slot.progress is not None and now >= slot.progress_from:
                    slot.progress_from = now + EVERY
                    await self.store_progress(session, slot)
                    if slot.executor:
                        slot.executor.progress_stored()
            if self._printed and now >= self._output_from:
                printed, self._printed = self._printed, []
                self._output_from = now + EVERY
                for task, lease, text in [(each.task, each.lease, each.tail.take()) for each in printed]:
                    await db.write_output(session, task, lease, text)
        except psycopg.Error as error:
            log.warning("progress not stored", error=str(error).strip())

    async def store_progress(self, session: Session, slot: Slot) -> None:
        """Stores the progress of a slot, once.

        Raises:
            psycopg.Error: the database refuses it, for its content perhaps.
        """
        progress, slot.progress = slot.progress, None
        if slot.task and progress is not None:
            await db.report_progress(session, slot.task, self._runner, progress)
