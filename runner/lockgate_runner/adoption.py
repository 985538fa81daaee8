"""Adoption: every runner watches the slots of the others, adopts from the dead, and ends the silent."""

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

import psycopg
import structlog

from lockgate_runner import db
from lockgate_runner.session import Session

GHOST = 0.1
"""Seconds after which the session of a dead runner that still holds a lock is ended. Mostly the server notices by
itself that its client is gone; and a runner that holds the lock instead, to adopt or to start, sends something by then.
"""

SOON = 0.02
"""Seconds to the next poll after an adoption, or the end of a silent session."""

log = structlog.get_logger()


class Verdict(NamedTuple):
    """What there is to do now."""

    orphans: list[db.Occupied]
    """Running tasks whose slot lock has been seen free, under one lease and session, for their whole grace."""

    silent: list[db.Occupied]
    """Held slots whose session has sent nothing for twice the grace, by our clock."""

    next_at: float
    """When the next wait ends, if nothing changes until then; infinity when there is none."""


class Sightings:
    """When this runner has first seen a free lock or a silence; forgotten as soon as anything about it changes.

    Pure bookkeeping over rows of `lockgate.slot_activity()` and readings of this host's clock.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], float] = {}

    def judge(
        self,
        rows: Iterable[db.Occupied],
        received: float,
        *,
        pid: int,
        slots: Collection[tuple[int, int]],
        inherited: Collection[str],
    ) -> Verdict:
        """Judges one look at the slots.

        Args:
            rows: the answer of lockgate.slot_activity().
            received: when that answer was received; seconds on the clock of deadlines.
            pid: backend of our own slot session.
            slots: (queue, slot) of those we hold or are about to take back; their tasks are no orphans to us.
            inherited: names of runners that are known to be dead with all their executors: nothing to wait for.
        """
        orphans: list[db.Occupied] = []
        silent: list[db.Occupied] = []
        next_at = math.inf
        seen: dict[tuple[object, ...], float] = {}
        for row in rows:
            if row.pid == pid or (row.pid is None and (row.queue, row.slot) in slots):
                continue
            heir = row.runner in inherited
            if row.pid is None:
                key: tuple[object, ...] = ("free", row.task, row.lease, row.session)
                wait, due = 0.0 if heir else row.grace, orphans
            else:
                key = ("held", row.queue, row.slot, row.pid, row.backend_start, row.state_change)
                wait, due = GHOST if heir else 2 * row.grace, silent
                if row.state_change is None:
                    continue  # another login's session, which this login may not inspect
            first = seen[key] = self._first.get(key, received)
            if received >= first + wait:
                due.append(row)
            elif due is orphans or heir or (row.silence or 0.0) > row.grace / 2:
                next_at = min(next_at, first + wait)
        self._first = seen
        return Verdict(orphans, silent, next_at)


class Adoption:
    """Acts on the slots of other sessions."""

    def __init__(self) -> None:
        self._inherited: frozenset[str] = frozenset()
        self._sightings = Sightings()
        self._warned = False

    def inherit(self, names: Collection[str]) -> None:
        """These runners are proved dead together with their executors, and their names are never used again."""
        self._inherited = frozenset(names)

    def forget(self) -> None:
        """After a lost session every wait begins anew: nobody knows what has happened meanwhile."""
        self._sightings = Sightings()

    async def look_after(
        self, session: Session, rows: list[db.Occupied], received: float, ours: Collection[tuple[int, int]]
    ) -> tuple[list[db.Occupied], float]:
        """Acts on one look at the slots. Returns what was adopted, and when to look again (infinity: at any time).

        Raises:
            psycopg.Error: the database refuses an adoption now.
        """
        if not self._warned and any(row.pid is not None and row.state_change is None for row in rows):
            self._warned = True
            log.error(
                "cannot inspect other logins",
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
        """Requeues the task of a dead runner, and releases its slot for whichever runner has room."""
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
