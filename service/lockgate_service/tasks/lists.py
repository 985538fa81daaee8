"""Lists of tasks, newest first: the filter, a page in bounded time, and the cursor where the next page begins."""

# ruff: noqa: S608  (put together from constants of this file and of those who call)

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from msgspec import json

from lockgate_service.http.body import field_and_message
from lockgate_service.http.params import to_utc
from lockgate_service.http.problems import invalid
from lockgate_service.pool import Pool
from lockgate_service.tasks.messages import TaskFilter

# Of lockgate.list_tasks.
WINDOW = 5_000  # tasks that a step examines
SPARSE_WINDOW = 1_000  # the same where each has a text to be searched, or lies on a page of its own
NAMED_MAX = 2_000  # tasks whose ids a step reads first
SECONDS = 0.02  # no further step begins after this time


class Found(NamedTuple):
    """Rows, newest first. Tasks with an id below `rest` have not been examined; None: there are none."""

    rows: list[tuple[Any, ...]]
    rest: int | None


def task_filter(**given: object) -> TaskFilter:
    """Raises: Refusal (400), also for a time without an offset."""
    try:
        only = msgspec.convert(given, TaskFilter)
    except msgspec.ValidationError as error:
        raise invalid(*field_and_message(str(error))) from None
    to_utc(only)
    return only


async def page(
    pool: Pool, only: TaskFilter, below: int | None, limit: int, columns: str, *, sparse: bool = False
) -> Found:
    """At most `limit` of the tasks with an id below `below`; fewer when the time is up. `columns`: a select list that
    begins with the id; `sparse`: it has a text that takes time to make."""
    rows = await pool.rows(
        f"""
        with list as materialized (select * from lockgate.list_tasks(%s::jsonb, %s::bigint, %s, %s, %s, %s, %s))
        select list.rest, t.* from list left join lateral (
          select {columns} from lockgate.task_detail where id = any (list.ids)) t on true
        order by t.id desc
        """,
        (
            *(json.encode(only).decode(), below, limit),
            *(SPARSE_WINDOW if sparse else WINDOW, SPARSE_WINDOW, NAMED_MAX, SECONDS),
        ),
    )
    return Found([row[1:] for row in rows if row[1] is not None], rows[0][0])


def cursor_at(below: int, only: TaskFilter) -> str:
    """For instance `4711-5ca1ab1e`: an id, and a digest of the filter. Opaque to clients."""
    return f"{below}-{_digest(only)}"


def place_of(cursor: str, only: TaskFilter) -> int:
    """The id below which the page begins. Raises: Refusal (400) for a cursor of another filter."""
    below, _, digest = cursor.partition("-")
    if digest != _digest(only):
        raise invalid("cursor", "is of a list with other filters: begin without one")
    return int(below)


def next_link(parameters: Sequence[tuple[str, str]]) -> str:
    """The header Link. Relative: only the client knows the address of this service."""
    return f'<?{urlencode(parameters)}>; rel="next"'


def _digest(only: TaskFilter) -> str:
    return blake2b(json.encode(only), digest_size=4).hexdigest()
