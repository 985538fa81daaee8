"""The SQL about tasks that the service sends, one function each."""

# ruff: noqa: S608  (put together from constants of this file)

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import json

from lockgate_service.pool import STATEMENT_LIMIT, Pool, columns
from lockgate_service.tasks.messages import (
    Action,
    Attempt,
    BriefTask,
    Due,
    Output,
    Status,
    Task,
    TaskChange,
    TaskDetail,
    TaskSummary,
    TaskVersion,
)

ATTEMPTS_MAX = 100
OUTPUTS_MAX = 20
POSITION_MAX = 1000


SUMMARY = columns(TaskSummary)
WHOLE = columns(Task)
DETAIL = columns(
    TaskDetail,
    attempts=f"""(
      select coalesce(json_agg(a order by lease), '[]') from (
        select {columns(Attempt)} from lockgate.attempt_detail where task = t.id
        order by lease desc limit {ATTEMPTS_MAX}) a)""",
    # Counted backwards from the task: Postgres then skips the index entries of tasks that were claimed before it.
    position=f"""case when status = 'queued' and %(with_position)s then (
      select count(*) + 1 from (
        select from lockgate.task_detail ahead
        where ahead.queue = t.queue and ahead.status = 'queued'
          and lockgate.claim_order(ahead.priority, ahead.id) < lockgate.claim_order(t.priority, t.id)
        order by lockgate.claim_order(ahead.priority, ahead.id) desc limit {POSITION_MAX}) counted) end""",
)
BRIEF = columns(
    BriefTask,
    status="""case status when 'running' then 'Run' when 'succeeded' then 'Completed' when 'failed' then 'Error'
      when 'cancelled' then 'Cancelled' else 'In Queue' end""",
    time_to_execute="case when finish_time is not null then exec_time end",
)
VERSION = columns(TaskVersion)


async def submit(pool: Pool, tasks: Sequence[bytes], scope: str = "") -> list[tuple[int, int | None, str]]:
    """Stores tasks, each a JSON object, and commits. Returns (item from 1, task, submit_outcome) for each."""
    text = "select item, task, outcome from lockgate.submit_batch(%s::jsonb, %s)"
    return await pool.rows(text, (f"[{b','.join(tasks).decode()}]", scope), repeatable=False)


async def submit_all(pool: Pool, tasks: bytes, scope: str) -> list[tuple[int, str, str, Due | None]]:
    """Stores all tasks of a JSON array or none. Returns (task, submit_outcome, queue, when it is due) for each.

    Raises: psycopg.Error LG012, and those of `submit_batch`, with the item in the detail.
    """
    text = "select task, outcome, queue, due from lockgate.submit_all(%s::jsonb, %s)"
    return await pool.rows(text, (tasks.decode(), scope), repeatable=False)


async def stored(pool: Pool, ids: Iterable[int]) -> dict[int, tuple[Task, Due | None]]:
    """Tasks by id, and when each is due; None: later than soon."""
    rows = await pool.rows(
        f"""
        select lockgate.due(status, run_at), {WHOLE}
        from lockgate.task_detail where id = any (%s)
        """,
        (list(ids),),
    )
    return {row[1]: (Task(*row[1:]), row[0]) for row in rows}


async def details(
    pool: Pool, ids: Sequence[int], limit: float = STATEMENT_LIMIT, *, with_position: bool = True
) -> dict[int, TaskDetail]:
    """The existing ones of these tasks, by id."""
    text = f"select {DETAIL} from lockgate.task_detail t where id = any (%(ids)s)"
    rows = await pool.rows(text, {"ids": list(ids), "with_position": with_position}, limit)
    found = {}
    for row in rows:
        task = TaskDetail(*row)
        raw: Any = task.attempts  # JSON, as Postgres sends it
        task.attempts = json.decode(raw, type=list[Attempt])
        found[task.id] = task
    return found


async def summaries(pool: Pool, ids: Sequence[int]) -> dict[int, TaskSummary]:
    """The existing ones of these tasks, by id."""
    rows = await pool.rows(f"select {SUMMARY} from lockgate.task_detail where id = any (%s)", (list(ids),))
    return {row[0]: TaskSummary(*row) for row in rows}


async def versions(pool: Pool, ids: Sequence[int]) -> dict[int, TaskVersion]:
    """Of the existing ones of these tasks, by id."""
    text = f"select id, {VERSION} from lockgate.task_version where id = any (%s)"
    return {task: TaskVersion(*row) for task, *row in await pool.rows(text, (list(ids),))}


async def outputs(pool: Pool, task_id: int) -> list[Output] | None:
    """Newest attempt first. None: there is no such task."""
    rows = await pool.rows(
        f"""
        select o.lease, o.text
        from lockgate.task_detail t left join lockgate.output_detail o on o.task = t.id
        where t.id = %s order by o.lease desc limit {OUTPUTS_MAX}
        """,
        (task_id,),
    )
    return [Output(lease, text) for lease, text in rows if lease is not None] if rows else None


async def brief_task(pool: Pool, task_id: int) -> BriefTask | None:
    """None: there is no such task."""
    rows = await pool.rows(f"select {BRIEF} from lockgate.task_detail where id = %s", (task_id,))
    return BriefTask(*rows[0]) if rows else None


async def cancel(pool: Pool, task_id: int, *, force: bool) -> Status:
    """Returns the new status; running: its runner is told. Raises: psycopg.Error LG006 if there is no such task."""
    status: Status = (await pool.rows("select lockgate.cancel(%s::bigint, %s)", (task_id, force)))[0][0]
    return status


async def retry(pool: Pool, task_id: int) -> None:
    """Raises: psycopg.Error LG006 no such task, LG007 wrong status, LG008 dedupe key taken."""
    await pool.rows("select lockgate.retry(%s::bigint)", (task_id,), repeatable=False)


async def delete(pool: Pool, task_id: int) -> None:
    """Raises: psycopg.Error LG006 no such task, LG007 it is running."""
    await pool.rows("select lockgate.delete_task(%s::bigint)", (task_id,), repeatable=False)


async def change(pool: Pool, task_id: int, changes: TaskChange) -> None:
    """Raises: psycopg.Error LG006 no such task, LG007 it does not wait, 23514 beyond a limit."""
    await pool.rows("select lockgate.change_task(%s::bigint, %s::jsonb)", (task_id, json.encode(changes).decode()))


_BULK: Mapping[Action, str] = {
    "cancel": "lockgate.cancel_tasks(%(ids)s::bigint[], %(force)s, %(statuses)s::lockgate.status[], %(queue)s)",
    "retry": "lockgate.retry_tasks(%(ids)s::bigint[], %(statuses)s::lockgate.status[], %(queue)s)",
    "delete": "lockgate.delete_tasks(%(ids)s::bigint[], %(statuses)s::lockgate.status[], %(queue)s)",
}


async def bulk(
    pool: Pool, action: Action, ids: Sequence[int], statuses: Sequence[Status], queue: str | None, *, force: bool
) -> int:
    """Applies an action to the tasks that are in one of the statuses and in the queue; returns their number."""
    params = {"ids": list(ids), "statuses": list(statuses), "queue": queue, "force": force}
    number: int = (await pool.rows(f"select {_BULK[action]}", params))[0][0]
    return number


async def count(pool: Pool, ids: Sequence[int], statuses: Sequence[Status], queue: str | None) -> int:
    """The number of these tasks that are in one of the statuses and, if given, in the queue."""
    text = """
        select count(*) from lockgate.task_detail
        where id = any (%s::bigint[]) and status = any (%s::lockgate.status[]) and (%s::text is null or queue = %s)
        """
    number: int = (await pool.rows(text, (list(ids), list(statuses), queue, queue)))[0][0]
    return number


async def notify(pool: Pool, queues: Collection[tuple[str, Due]]) -> None:
    """Tells idle runners of these queues."""
    await pool.rows(
        "select lockgate.notify_due(queue, due) from unnest(%s::text[], %s::text[]) as asked (queue, due)",
        ([queue for queue, _ in queues], [due for _, due in queues]),
    )
