"""What handlers say while they execute, on its way to the table: progress and output."""

import psycopg
import structlog

from lockgate_runner import db
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.output import Tail
from lockgate_runner.session import Session
from lockgate_runner.slots import Slot

EVERY = 0.5
"""Seconds between two stored reports of one task, and between two writes of what was printed."""

log = structlog.get_logger()


class Words:
    """Holds what is not stored yet: the latest progress on each slot, and a bounded tail of each output."""

    def __init__(self, runner: str) -> None:
        self._runner = runner
        self._tails: dict[tuple[int, int], Tail] = {}
        self._tails_from = 0.0

    def printed(self, task: int, lease: int, data: bytes) -> None:
        self._tails.setdefault((task, lease), Tail()).add(data)

    def times(self, slots: list[Slot]) -> list[float]:
        """When there will be something to store."""
        times = [slot.progress_from for slot in slots if slot.progress is not None and slot.executing]
        return [*times, self._tails_from] if self._tails else times

    async def store(self, session: Session, slots: list[Slot]) -> None:
        """Stores what is due. A refusal is logged, and not worth more than that."""
        now = watchdog.now()
        try:
            for slot in slots:
                if slot.executing and slot.progress is not None and now >= slot.progress_from:
                    slot.progress_from = now + EVERY
                    await self.store_progress(session, slot)
                    if slot.executor:
                        slot.executor.heard()
            if self._tails and now >= self._tails_from:
                tails, self._tails = self._tails, {}
                self._tails_from = now + EVERY
                for (task, lease), tail in tails.items():
                    await db.write_output(session, task, lease, tail.text())
        except psycopg.Error as error:
            log.warning("words not stored", error=str(error).strip())

    async def store_progress(self, session: Session, slot: Slot) -> None:
        """Raises psycopg.Error when the database refuses it, for its content perhaps; it is not tried again."""
        progress, slot.progress = slot.progress, None
        if slot.task and progress is not None:
            await db.report_progress(session, slot.task, self._runner, progress)
