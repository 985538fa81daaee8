"""The way to the database, below everything the service does there."""

import asyncio

import pytest
from lockgate_service.http.problems import Refusal
from lockgate_service.pool import Pool

from tests.contract import Contract, until
from tests.database import Database
from tests.proxy import Proxy


def test_a_statement_that_comes_after_its_own_cancellation_is_cancelled_again(
    db: Database, q: Contract, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would wait for its lock for as long as that is held, and then do what nobody waits for any more."""
    # Late enough that the statement is seen to wait, whenever it arrives.
    monkeypatch.setattr("lockgate_service.pool.INSIST_AFTER", (3.0, 0.5, 0.5))
    locker = db.connect("admin")
    waiting = "select query from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"

    async def overtaken() -> None:
        pool = Pool(proxy.dsn, 1)
        await pool.open()
        before = await pool.rows("select pg_backend_pid()")
        proxy.strand()  # what is sent on this connection is on its way; the request to cancel comes on another
        with pytest.raises(Refusal, match="did not answer"):
            await pool.rows("select lockgate.submit('default', 'late')", limit=0.3)
        await asyncio.sleep(0.1)  # the request to cancel is there and has found nothing
        proxy.resume()
        await asyncio.to_thread(until, lambda: db.query(waiting) != [], "the statement to wait for the lock")
        await asyncio.to_thread(until, lambda: db.query(waiting) == [], "it to be given up")
        assert await pool.rows("select pg_backend_pid()") != before  # a request that is late meets nobody else's
        await pool.close()

    with locker.transaction():
        locker.execute("lock table lockgate.task")
        asyncio.run(overtaken())
    assert q.tasks() == []
