"""What every runner does about the slots of others: adopts from the dead, ends the silent."""

from collections.abc import Collection

import psycopg
import structlog

from lockgate_runner import db
from lockgate_runner.session import Session
from lockgate_runner.sightings import Sightings

SOON = 0.02
"""Seconds to the next look after something was done about a neighbour."""

log = structlog.get_logger()


class Neighbours:
    """Watches the slots of other sessions."""

    def __init__(self) -> None:
        self._inherited: frozenset[str] = frozenset()
        self._sightings = Sightings()
        self._warned = False

    def inherit(self, names: Collection[str]) -> None:
        """These runners are proved dead together with their executors, and their names are never used again."""
        self._inherited = frozenset(names)

    def forget(self) -> None:
        """After a lost session: nobody knows what happened meanwhile, every wait begins anew."""
        self._sightings = Sightings()

    async def look_after(
        self, session: Session, rows: list[db.Occupied], received: float, ours: Collection[tuple[int, int]]
    ) -> tuple[list[db.Occupied], float]:
        """Acts on one look at the slots: what was adopted, its slot free again, and when the next look is due.

        That is on the clock of `deadline`: infinity for any time.

        Raises:
            psycopg.Error: the database refuses an adoption now.
        """
        if not self._warned and any(row.pid is not None and row.state_change is None for row in rows):
            self._warned = True
            log.error(
                "blind to other logins",
                hint="a frozen runner under another login keeps its slot: give all runners one login, or this one "
                "pg_read_all_stats and pg_signal_backend",
            )
        verdict = self._sightings.judge(rows, received, pid=session.pid, slots=ours, inherited=self._inherited)
        for silent in verdict.silent:
            await self._end(session, silent)
        adopted = [orphan for orphan in verdict.orphans if await self._adopt(session, orphan)]
        return adopted, received + SOON if adopted or verdict.silent else verdict.next_at

    async def _end(self, session: Session, silent: db.Occupied) -> None:
        if silent.pid is None or silent.backend_start is None:
            return
        try:
            ended = await db.end_backend(session, silent.pid, silent.backend_start)
        except psycopg.Error as error:
            log.error("silent holder cannot be ended", backend_pid=silent.pid, error=str(error).strip())
            return
        if ended:
            log.warning("silent holder ended", backend_pid=silent.pid, slot=silent.slot, task=silent.task)

    async def _adopt(self, session: Session, orphan: db.Occupied) -> bool:
        """Puts the task of a dead runner back. The slot is let go again; whoever has room takes it."""
        if not await db.retake_slot(session, orphan.queue, orphan.slot):
            return False
        try:
            status = await db.adopt(session, orphan)
        finally:
            await db.release_slot(session, orphan.queue, orphan.slot)
        if status is None:
            return False
        log.warning(
            "adopted", task=orphan.task, slot=orphan.slot, lease=orphan.lease, lost_runner=orphan.runner, status=status
        )  # fmt: skip
        return True
