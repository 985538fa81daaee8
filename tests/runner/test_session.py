"""The slot session: what an answer proves, and when there is none."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import pytest
from lockgate_runner.db import scalar
from lockgate_runner.executor import watchdog
from lockgate_runner.session import NotDirect, Session, SessionLost
from lockgate_runner.statements import PREPARE_AFTER

from tests.contract import Contract, until
from tests.database import Database
from tests.proxy import Proxy

T = TypeVar("T")

SHORT = 5.0
"""A grace, in seconds, where the end of it is waited for; others have time on a slow machine."""


def on_session(url: str, story: Callable[[Session], Awaitable[T]], grace: float = 60) -> T:
    async def tell() -> T:
        session = await Session.open(url, "r1", grace)
        try:
            return await story(session)
        finally:
            await session.close()

    return asyncio.run(tell())


@pytest.fixture
def answers(db: Database) -> Callable[[str], None]:
    """From now on `pg_backend_pid()` is that, or `pg_is_in_recovery()`, for whoever logs in as a runner."""
    db.query(
        """
        create schema odd;
        create table odd.answer (pid int, in_recovery bool);
        insert into odd.answer values (null, null);
        create function odd.pg_backend_pid() returns int language sql as
          'select coalesce((select pid from odd.answer), pg_catalog.pg_backend_pid())';
        create function odd.pg_is_in_recovery() returns bool language sql as
          'select coalesce((select in_recovery from odd.answer), pg_catalog.pg_is_in_recovery())';
        grant usage on schema odd to public;
        grant select on odd.answer to public;
        """
    )
    login = psycopg.conninfo.conninfo_to_dict(db.runner)["user"]
    db.query(f"alter role {login} in database {db.name} set search_path = odd, pg_catalog")

    def answer(values: str) -> None:
        db.query(f"update odd.answer set {values}")

    return answer


def test_a_standby_grants_locks_too_and_is_not_worked_on(db: Database, answers: Callable[[str], None]) -> None:
    answers("in_recovery = true")

    async def story(session: Session) -> None:
        pass

    with pytest.raises(SessionLost, match="standby"):
        on_session(db.runner, story)


def test_every_ping_asks_whether_the_server_is_still_the_primary(db: Database, answers: Callable[[str], None]) -> None:
    async def story(session: Session) -> None:
        await session.ping()
        answers("in_recovery = true")
        await session.ping()

    with pytest.raises(SessionLost, match="standby"):
        on_session(db.runner, story)


def test_every_ping_asks_whether_the_backend_is_still_the_same(db: Database, answers: Callable[[str], None]) -> None:
    async def story(session: Session) -> None:
        await session.ping()
        answers("pid = 1")
        await session.ping()

    with pytest.raises(NotDirect, match="but 1 answers: DATABASE_URL leads to a connection pooler"):
        on_session(db.runner, story)


def test_an_answer_proves_that_the_session_lived_when_it_was_asked_and_not_later(db: Database) -> None:
    async def story(session: Session) -> None:
        before = watchdog.now()
        scalar(await session.fetch("select pg_sleep(0.2)"))
        assert before <= session.sent < watchdog.now() - 0.2
        asked = watchdog.now()
        with pytest.raises(psycopg.DataError):
            scalar(await session.fetch("select 1 / nullif(0, (select 0 from pg_sleep(0.2)) + 1)"))
        assert asked <= session.sent < watchdog.now()

    on_session(db.runner, story)


def test_a_farewell_that_nobody_waited_for_is_heard_by_the_next_statement(db: Database) -> None:
    async def story(session: Session) -> None:
        await session.ping()
        db.query("select pg_terminate_backend(%s)", session.pid)
        until(lambda: not db.value("select count(*) from pg_stat_activity where pid = %s", session.pid), "its end")
        with pytest.raises(SessionLost, match="closed the connection"):
            await session.ping()

    on_session(db.runner, story)


def test_a_statement_larger_than_what_the_server_takes_at_once_arrives_whole(db: Database) -> None:
    async def story(session: Session) -> int:
        return int(scalar(await session.fetch("select length($1)", "x" * 20_000_000)))

    assert on_session(db.runner, story) == 20_000_000


def test_a_statement_is_the_same_before_and_after_it_is_prepared(db: Database) -> None:
    async def story(session: Session) -> list[object]:
        return [scalar(await session.fetch("select $1::text || $2::int", "n", n)) for n in range(PREPARE_AFTER + 2)]

    assert on_session(db.runner, story) == [f"n{n}" for n in range(PREPARE_AFTER + 2)]


def test_a_silent_server_is_given_up_while_there_is_time_to_come_back(db: Database) -> None:
    with Proxy(db.runner) as proxy:

        async def story(session: Session) -> float:
            proxy.silence()
            begin = watchdog.now()
            with pytest.raises(SessionLost, match="no answer"):
                await session.ping()
            waited = watchdog.now() - begin
            proxy.resume()
            return waited

        assert 0.4 * SHORT <= on_session(proxy.dsn, story, SHORT) < SHORT


def test_a_statement_that_is_given_up_is_not_cancelled_and_takes_effect(q: Contract) -> None:
    """A cancel would take its time, and leave it open whether it came too late."""
    task = q.submit()
    owner = q.runner("r1")
    claimed = owner.work()
    locker = q.db.connect("admin")

    async def story(session: Session) -> None:
        with locker.transaction():
            locker.execute("select from lockgate.task for update")
            scalar(await session.fetch("select set_config('lock_timeout', '0', false)"))
            with pytest.raises(SessionLost, match="no answer"):
                scalar(await session.fetch("select lockgate.finish($1, $2, 'r1', 1, 'true')", task, claimed.lease))

    on_session(q.db.runner, story, SHORT)
    until(lambda: q.task(task).status == "succeeded", "the statement to take effect")


def test_the_defaults_of_a_server_or_a_login_are_overruled(db: Database) -> None:
    login = psycopg.conninfo.conninfo_to_dict(db.runner)["user"]
    odd = {
        "default_transaction_isolation": "serializable",
        "default_transaction_read_only": "on",
        "idle_session_timeout": "10s",
        "idle_in_transaction_session_timeout": "10s",
        "statement_timeout": "10s",
        "lock_timeout": "10s",
        "synchronous_commit": "off",
    }
    for name, value in odd.items():
        db.query(f"alter role {login} in database {db.name} set {name} = '{value}'")

    async def story(session: Session) -> dict[str, str]:
        return {name: scalar(await session.fetch("select current_setting($1)", name)) for name in odd}

    assert on_session(db.runner, story) == {
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "idle_session_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "statement_timeout": "0",
        "lock_timeout": "12s",  # a fifth of the grace
        "synchronous_commit": "on",
    }


def test_a_setting_that_cannot_be_had_is_refused(db: Database) -> None:
    """A pooler that answers for the server does not pass them on."""
    db.query(
        """
        create schema odd;
        create function odd.set_config(name text, value text, is_local boolean) returns text language sql as
          'select case name when ''statement_timeout'' then ''1s'' else value end';
        grant usage on schema odd to public;
        """
    )
    login = psycopg.conninfo.conninfo_to_dict(db.runner)["user"]
    db.query(f"alter role {login} in database {db.name} set search_path = odd, pg_catalog")

    async def story(session: Session) -> None:
        pass

    with pytest.raises(NotDirect, match="the server keeps statement_timeout at 1s"):
        on_session(db.runner, story)
