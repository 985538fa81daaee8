"""What a runner has seen of the slots of others, and for how long: the waits before an adoption.

Pure bookkeeping over rows of `lockgate.slot_activity()` and readings of this host's clock; it decides, the runner acts.
"""

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

from lockgate_runner.db import Occupied

GHOST = 0.1
"""Seconds after which the session of a dead runner that still holds a lock is ended. Mostly the server sees by itself
that its client is gone; and whoever holds the lock instead, to adopt or to start, says something more by then."""


class Verdict(NamedTuple):
    """What there is to do now."""

    orphans: list[Occupied]
    """Running tasks whose slot lock has been seen free, under one lease and session, for their whole grace."""

    silent: list[Occupied]
    """Held slots whose holder has not said a word for twice the grace, by our clock."""

    next_at: float
    """When the next of the waits is over, if nothing changes until then; infinity when there is none."""


class Sightings:
    """First sights of free locks and of silences; forgotten as soon as anything about them changes."""

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], float] = {}

    def judge(
        self,
        rows: Iterable[Occupied],
        received: float,
        *,
        pid: int,
        slots: Collection[tuple[int, int]],
        inherited: Collection[str],
    ) -> Verdict:
        """Judges one look at the slots.

        Args:
            rows: what lockgate.slot_activity() answered.
            received: when that answer was received; seconds on the clock of `deadline`.
            pid: backend of our own slot session.
            slots: (queue, slot) of those we hold or are about to take back; their tasks are no orphans to us.
            inherited: names of runners that are known to be dead with all their executors: nothing to wait for.
        """
        orphans: list[Occupied] = []
        silent: list[Occupied] = []
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
                    continue  # another login's session, which we may not look into
            first = seen[key] = self._first.get(key, received)
            if received >= first + wait:
                due.append(row)
            elif due is orphans or heir or (row.silence or 0.0) > row.grace / 2:
                next_at = min(next_at, first + wait)
        self._first = seen
        return Verdict(orphans, silent, next_at)
