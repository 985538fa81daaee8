"""Deleting a queue, which its runners have to let go of first."""

import time
from typing import Any

import psycopg
from psycopg import errors

from lockgate.commands.database import Database
from lockgate.errors import UserError

LIMIT = 10.0  # seconds; runners look at least once in a poll, which is 1 s unless somebody changed it
PAUSE = 0.2
NOT_YET = "LG009"

# By status, as the indexes are: no queue of millions of tasks is read whole to find that another is empty.
TASKS = """
select slots, running > 0 or queued <> '0' or scheduled <> '0' or exists (
  select from lockgate.task_detail t
  where t.queue = q.queue and t.status in ('succeeded', 'failed', 'cancelled'))
from lockgate.queue_overview q where queue = %s
"""


def delete_queue(database: Database, name: str) -> None:
    """Set its slots to 0, wait for its runners, delete it; or else give it its slots back. Raises UserError."""
    with database.connect() as connection:
        slots = _slots(connection, name)
        gone = False
        try:
            _set_slots(connection, name, 0)
            gone = _try_to_delete(connection, name)
        finally:
            if not gone:
                _restore(connection, database, name, slots)
    if not gone:
        raise UserError(f'runners still hold slots of queue "{name}" after {LIMIT:.0f} s; it stays as it was')


def _slots(connection: psycopg.Connection[Any], name: str) -> int:
    """Return how many it has. Raises UserError if it cannot be deleted anyway."""
    row = connection.execute(TASKS, [name]).fetchone()
    if row is None:
        raise UserError(f'there is no queue "{name}"')
    if row[1]:
        raise UserError(f'queue "{name}" is not empty: cancel what waits or runs, then `lockgate queues purge {name}`')
    return int(row[0])


def _set_slots(connection: psycopg.Connection[Any], name: str, slots: int) -> None:
    connection.execute("select lockgate.set_slots(%s, %s)", [name, slots])


def _try_to_delete(connection: psycopg.Connection[Any], name: str) -> bool:
    end = time.monotonic() + LIMIT
    while True:
        try:
            connection.execute("select lockgate.delete_queue(%s)", [name])
            return True
        except errors.LockNotAvailable:
            pass
        except psycopg.Error as error:
            if error.sqlstate != NOT_YET:
                raise
            _slots(connection, name)  # or somebody has submitted to it
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE)


def _restore(connection: psycopg.Connection[Any], database: Database, name: str, slots: int) -> None:
    """Give it its slots back, through another connection if this one broke; fine if it is gone after all."""
    try:
        if connection.broken:
            with database.connect() as another:
                _set_slots(another, name, slots)
        else:
            _set_slots(connection, name, slots)
    except psycopg.Error as error:
        if error.sqlstate != "LG001":
            raise
