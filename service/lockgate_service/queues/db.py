"""The SQL about queues, slots and runners that the service sends, one function each."""

# ruff: noqa: S608  (put together from constants of this file)

from typing import Literal

from msgspec import json

from lockgate_service.http.problems import no_runner
from lockgate_service.pool import Pool, columns
from lockgate_service.queues.messages import Kind, NewQueue, Queue, QueueChange, Runner, Slot

RUNNERS_MAX = 1000
KINDS_MAX = 1000

QUEUE = f"""
  select {columns(Queue, name="queue", oldest_wait="oldest_wait::float8")}
  from lockgate.queue_detail join (
    select queue, running, queued, scheduled, oldest_wait from lockgate.queue_overview) o using (queue)"""
SLOT = f"""
  select {columns(Slot, seconds="seconds::float8", seconds_silent="seconds_silent::float8")}
  from lockgate.slot_overview"""
RUNNER = f"select {columns(Runner)} from lockgate.runner_overview"
KIND = f"""
  select {columns(Kind, payload_schema="coalesce(payload_schema, 'null')")} from lockgate.kind_overview"""


async def queues(pool: Pool) -> list[Queue]:
    """By name."""
    return [Queue(*row) for row in await pool.rows(f"{QUEUE} order by queue")]


async def queue(pool: Pool, name: str) -> Queue | None:
    """None: there is no such queue."""
    rows = await pool.rows(f"{QUEUE} where queue = %s", (name,))
    return Queue(*rows[0]) if rows else None


async def create(pool: Pool, new: NewQueue) -> None:
    """Raises: psycopg.Error 23505 it exists, 23514 beyond a limit."""
    text = "select lockgate.create_queue(%s, %s::jsonb - 'name')"
    await pool.rows(text, (new.name, json.encode(new).decode()), repeatable=False)


async def change(pool: Pool, name: str, settings: QueueChange) -> None:
    """Raises: psycopg.Error LG001 no such queue, 23514 beyond a limit."""
    await pool.rows("select lockgate.change_queue(%s, %s::jsonb)", (name, json.encode(settings).decode()))


async def purge(pool: Pool, name: str, batch: int) -> int:
    """Deletes ended tasks and returns their number."""
    removed: int = (await pool.rows("select lockgate.purge(%s, %s)", (name, batch)))[0][0]
    return removed


async def has_ended_tasks(pool: Pool, name: str) -> bool:
    # Ordered, or a plan that expects many reads the whole table to find none.
    text = """
        select from lockgate.task_detail where queue = %s and status in ('succeeded', 'failed', 'cancelled')
        order by finish_time limit 1
        """
    return bool(await pool.rows(text, (name,)))


async def slots(pool: Pool) -> list[Slot]:
    """By queue and number."""
    return [Slot(*row) for row in await pool.rows(f"{SLOT} order by queue, slot")]


async def runners(pool: Pool) -> list[Runner]:
    """Newest first."""
    return [Runner(*row) for row in await pool.rows(f"{RUNNER} order by session desc limit {RUNNERS_MAX}")]


async def kinds(pool: Pool) -> list[Kind]:
    """By name."""
    return [Kind(*row) for row in await pool.rows(f"{KIND} order by kind limit {KINDS_MAX}")]


async def tell(pool: Pool, order: Literal["drain", "resume"], name: str) -> Runner:
    """The latest session of the runner after that order. Raises: psycopg.Error LG010 if there is no such runner."""
    await pool.rows(f"select lockgate.{order}_runner(%s)", (name,))
    rows = await pool.rows(f"{RUNNER} where runner = %s order by session desc limit 1", (name,))
    if not rows:
        raise no_runner(name)
    return Runner(*rows[0])
