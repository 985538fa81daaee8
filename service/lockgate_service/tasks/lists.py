"""Lists of tasks, newest first, in a time that no table and no filter makes longer.

Indexes are paid for by every claim, so most filters have none. A list walks through what an index does offer, a window
at a time, and when its time is up it says how far it came; the next page goes on from there.
"""

# ruff: noqa: S608  (put together from constants of this file and of db)

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, get_args

from lockgate_service.pool import Pool
from lockgate_service.rows import utc
from lockgate_service.tasks.db import GLANCE, SUMMARY, WHOLE
from lockgate_service.tasks.messages import Status, TaskFilter

WINDOW = 5_000  # tasks looked at by a statement
SPARSE_WINDOW = 1_000  # of which each has a text to be searched, or lies on a page of its own
NAMED_MAX = 2_000  # of those whose ids are read first
SECONDS = 0.02  # after which no further window is begun
# Tasks of transactions that were open for longer may be missed by `created_after` and `created_before`.
TRANSACTION = timedelta(minutes=1)
COLUMNS = {
    "id": "id",
    "glance": GLANCE,
    "summary": SUMMARY,
    "full": WHOLE,
    "failure": f"id, queue, kind, lockgate.failure(error), {utc('finish_time')}",
}

_CONDITIONS: Mapping[str, str] = {
    "status": "status = any (%(status)s::lockgate.status[])",
    "queue": "queue = %(queue)s",
    "kind": "kind = %(kind)s",
    "tag": "tags @> array[%(tag)s::text]",
    "runner": "runner = %(runner)s",
    "error": "status = 'failed'"
    " and strpos(lower(concat_ws(': ', error ->> 'type', error ->> 'message')), lower(%(error)s)) > 0",
    "failure": "status = 'failed' and lockgate.failure(error) = %(failure)s",
    "created_after": "create_time >= %(created_after)s",
    "created_before": "create_time < %(created_before)s",
    "finished_after": "finish_time >= %(finished_after)s",
    "finished_before": "finish_time < %(finished_before)s",
}
# What a list walks through: conditions that an index serves in the order of the ids, or the ids themselves.
_ALL = "true"
_ASIDE: Mapping[Status, str] = {
    status: f"status = '{status}'"
    for status in ("scheduled", "failed", "cancelled")  # those of the index task_aside
}
_QUEUED = "select lockgate.newest_queued(%(queue)s, %(below)s, %(most)s)"
_RUNNING = "select id from lockgate.running() where id < %(below)s order by id desc limit %(most)s"
# In the order of its index, or a plan that expects many tasks reads the whole table to find none.
_ENDED = """
  select t.id from lockgate.queue_detail q cross join lateral (
    select id from lockgate.task_detail t
    where t.queue = q.queue and status in ('succeeded', 'failed', 'cancelled')
      and finish_time >= coalesce(%(finished_after)s, '-infinity'::timestamptz)
      and finish_time < coalesce(%(finished_before)s, 'infinity'::timestamptz)
    order by finish_time desc limit %(most)s) t
  where %(queue)s::text is null or q.queue = %(queue)s
  limit %(most)s"""


class Found(NamedTuple):
    """Rows, newest first. Tasks with an id below `rest` have not been looked at; None: there are none."""

    rows: list[tuple[Any, ...]]
    rest: int | None


async def page(
    pool: Pool, only: TaskFilter, below: int | None, limit: int, columns: str, seconds: float | None = None
) -> Found:
    """At most `limit` of the tasks below that id; fewer, though there are more, when the time is up."""
    walk = await Walk.begin(pool, only, below, columns)
    end = asyncio.get_running_loop().time() + (SECONDS if seconds is None else seconds)
    rows: list[tuple[Any, ...]] = []
    while True:
        found = await walk.step(limit + 1 - len(rows))
        rows += found.rows
        if len(rows) > limit:
            return Found(rows[:limit], rows[limit - 1][0])
        if found.rest is None or asyncio.get_running_loop().time() >= end:
            return Found(rows, found.rest)


class Walk:
    """Through all that a filter may apply to, from the newest to the oldest."""

    def __init__(self, pool: Pool, only: TaskFilter, columns: str) -> None:
        self._pool = pool
        self._columns = COLUMNS[columns]
        self._only = only
        reads_errors = only.error is not None or only.failure is not None or columns == "failure"
        self._window = SPARSE_WINDOW if reads_errors else WINDOW
        self._params: dict[str, Any] = {name: getattr(only, name) for name in _CONDITIONS}
        given = {name for name in _CONDITIONS if self._params[name] is not None}
        self._conditions = [_CONDITIONS[name] for name in sorted(given)]
        self._takes_all_queued = given <= {"status", "queue"}
        self._below = 2**63 - 1
        self._above = 0
        # Whatever the filter applies to is in one of these.
        self._parts: list[str] = []
        self._ended: list[int] = []

    @classmethod
    async def begin(cls, pool: Pool, only: TaskFilter, below: int | None, columns: str) -> "Walk":
        """`below`: only tasks with a smaller id."""
        walk = cls(pool, only, columns)
        if below is not None:
            walk._below = below
        for before in (only.created_before, only.finished_before):
            if before is not None:
                walk._below = min(walk._below, await _created_since(pool, before, TRANSACTION))
        if only.created_after is not None:
            walk._above = await _created_since(pool, only.created_after, -TRANSACTION) - 1
        await walk._find_parts()
        return walk

    async def step(self, limit: int) -> Found:
        """At most `limit` rows of the next window."""
        found = [await self._part(part, limit) for part in self._parts]
        # What is older, one of the parts has not looked at.
        rest = max((part.rest or 0 for part in found), default=0)
        rows = sorted((row for part in found for row in part.rows if row[0] >= rest), key=lambda row: -row[0])[:limit]
        if len(rows) == limit:
            rest = max(rest, rows[-1][0])
        self._below = rest
        return Found(rows, rest if rest > self._above + 1 else None)

    async def _part(self, part: str, limit: int) -> Found:
        named = part.startswith("select")
        most = min(limit, NAMED_MAX) if part == _QUEUED and self._takes_all_queued else NAMED_MAX
        if named:
            condition = "id = any (array(select * from named))"
            window = f"named as materialized ({part}), "
            floor = "select case when count(*) = %(most)s then min(id) else 0 end as id from named as n(id)"
        else:
            condition, window = part, ""
            size = SPARSE_WINDOW if part in _ASIDE.values() else self._window
            floor = f"""
              select coalesce((
                select id from lockgate.task_detail where {part} and id < %(below)s and id > %(above)s
                order by id desc offset {size - 1} limit 1), 0) as id"""
        rows = await self._pool.rows(
            f"""
            with {window}floor as materialized ({floor})
            select floor.id, t.* from floor left join lateral (
              select {self._columns} from lockgate.task_detail
              where {" and ".join([condition, *self._conditions])}
                and id < %(below)s and id >= floor.id and id > %(above)s
              order by id desc limit %(limit)s) t on true
            """,
            self._params
            | {"below": self._below, "above": self._above, "limit": limit, "most": most, "ended": self._ended},
        )
        found = [row[1:] for row in rows if row[1] is not None]
        # A full page ends before the window does.
        return Found(found, found[-1][0] if len(found) == limit else rows[0][0] or None)

    async def _find_parts(self) -> None:
        only = self._only
        statuses: set[Status] = set(only.status or get_args(Status))
        if only.error is not None or only.failure is not None:
            statuses &= {"failed"}
        if only.finished_after is not None or only.finished_before is not None:
            statuses &= {"succeeded", "failed", "cancelled"}
            rows = await self._pool.rows(_ENDED, self._params | {"most": NAMED_MAX + 1})
            if len(rows) <= NAMED_MAX:
                self._ended = [row[0] for row in rows]
                self._parts = ["id = any (%(ended)s::bigint[])"]
                return
        if "succeeded" in statuses:
            self._parts = [_ALL]
        else:
            self._parts = [text for status, text in _ASIDE.items() if status in statuses]
            self._parts += [_QUEUED] if "queued" in statuses else []
            self._parts += [_RUNNING] if "running" in statuses else []


async def _created_since(pool: Pool, time: datetime, margin: timedelta) -> int:
    rows = await pool.rows("select lockgate.created_since(%s::timestamptz + %s)", (time, margin))
    number: int = rows[0][0]
    return number
