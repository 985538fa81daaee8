"""Lists of tasks, newest first, in a time that no table and no filter makes longer: see lockgate.list_tasks."""

# ruff: noqa: S608  (put together from constants of this file and of db)

from typing import Any, NamedTuple

from msgspec import json

from lockgate_service.pool import Pool
from lockgate_service.rows import utc
from lockgate_service.tasks.db import GLANCE, SUMMARY, WHOLE
from lockgate_service.tasks.messages import TaskFilter

WINDOW = 5_000  # tasks looked at by a statement
SPARSE_WINDOW = 1_000  # of which each has a text to be searched, or lies on a page of its own
NAMED_MAX = 2_000  # of those whose ids are read first
SECONDS = 0.02  # after which no further window is begun
COLUMNS = {
    "id": "id",
    "glance": GLANCE,
    "summary": SUMMARY,
    "full": WHOLE,
    "failure": f"id, queue, kind, lockgate.failure(error), {utc('finish_time')}",
}


class Found(NamedTuple):
    """Rows, newest first. Tasks with an id below `rest` have not been looked at; None: there are none."""

    rows: list[tuple[Any, ...]]
    rest: int | None


async def page(
    pool: Pool, only: TaskFilter, below: int | None, limit: int, columns: str, seconds: float | None = None
) -> Found:
    """At most `limit` of the tasks below that id; fewer, though there are more, when the time is up."""
    window = SPARSE_WINDOW if columns == "failure" else WINDOW
    rows = await pool.rows(
        f"""
        with list as materialized (select * from lockgate.list_tasks(%s::jsonb, %s::bigint, %s, %s, %s, %s, %s))
        select list.rest, t.* from list left join lateral (
          select {COLUMNS[columns]} from lockgate.task_detail where id = any (list.ids)) t on true
        order by t.id desc
        """,
        (
            *(json.encode(only).decode(), below, limit, window, SPARSE_WINDOW, NAMED_MAX),
            SECONDS if seconds is None else seconds,
        ),
    )
    return Found([row[1:] for row in rows if row[1] is not None], rows[0][0])
