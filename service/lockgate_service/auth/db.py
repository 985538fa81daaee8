"""Every SQL text about keys that the service sends, a function each."""

from collections.abc import Collection

from lockgate_service.auth.caller import Caller
from lockgate_service.pool import Pool


async def in_force(pool: Pool) -> tuple[bool, list[tuple[bytes, Caller]]]:
    """Whether a key was ever made, and those in force, each with its digest."""
    text = """
        select e.has_keys, k.digest, k.scope::text, k.owner, k.queue, k.id
        from (select lockgate.has_keys()) e left join lockgate.keys_in_force() k on e.has_keys
        """
    rows = await pool.rows(text)
    return rows[0][0], [(digest, Caller(*rest)) for _, digest, *rest in rows if digest is not None]


async def queue_of_task(pool: Pool, task_id: int) -> str | None:
    """The queue it is in, for good; None if there is no such task."""
    rows = await pool.rows("select queue from lockgate.task_detail where id = %s", (task_id,))
    return rows[0][0] if rows else None


async def note_use(pool: Pool, ids: Collection[str]) -> None:
    await pool.rows("select lockgate.note_key_use(%s)", (list(ids),))
