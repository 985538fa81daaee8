"""Applying the schema, and making logins: again and again, side by side, and beside readers that stay."""

import psycopg
import pytest

from lockgate import schema
from lockgate.schema import VERSION
from tests.contract import Threads, until
from tests.database import Database
from tests.lockgate.up import lockgate

# Every row of the catalog about the schema, with the transaction that wrote it.
OBJECTS = """
select array_agg((oid, xmin)::text order by oid) from (
  select oid, xmin from pg_namespace where nspname = 'lockgate'
  union all select oid, xmin from pg_class where relnamespace = 'lockgate'::regnamespace
  union all select oid, xmin from pg_proc where pronamespace = 'lockgate'::regnamespace
  union all select oid, xmin from pg_type where typnamespace = 'lockgate'::regnamespace) o
"""


@pytest.fixture
def empty(db: Database) -> Database:
    """A database without the schema."""
    db.query("drop schema lockgate cascade")
    return db


def test_applying_again_touches_nothing_even_beside_a_reader_that_stays(db: Database) -> None:
    reader = db.connect("viewer")
    reader.execute("begin")
    reader.execute("select * from task, queue, attempt, runner").fetchall()
    before = db.value(OBJECTS)
    assert schema.apply(db.owner) == VERSION
    assert schema.apply(db.runner) == VERSION  # any login may find that there is nothing to do
    assert lockgate("migrate", DATABASE_URL=db.owner).stdout == f"schema: version {VERSION}\n"
    assert db.value(OBJECTS) == before


def test_several_may_apply_it_at_once(empty: Database, threads: Threads) -> None:
    applied = [threads.start(schema.apply, empty.owner) for _ in range(4)]
    assert [future.result(60) for future in applied] == [VERSION] * 4
    assert empty.value("select count(*) from lockgate.release") == 1


def test_a_lock_that_is_not_had_is_tried_again(empty: Database, threads: Threads) -> None:
    rival = empty.connect("owner")
    rival.execute("select pg_advisory_lock(1279721472, -1)")
    applied = threads.start(schema.apply, empty.owner)
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
    until(lambda: empty.value(waiting) == 1, "the applier to wait")
    until(lambda: empty.value(waiting) == 0, "the applier to give up, rather than make others wait behind it")
    rival.execute("select pg_advisory_unlock_all()")
    assert applied.result(60) == VERSION


def test_an_apply_that_may_not_leaves_nothing(empty: Database) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        schema.apply(empty.runner)
    refused = lockgate("migrate", "--database-url", empty.runner)
    assert refused.returncode == 1
    assert refused.stderr.startswith("lockgate: the login of DATABASE_URL may not do this: permission denied")
    assert refused.stderr.count("\n") == 1


def test_logins_can_be_made_side_by_side_and_do_what_they_are_for(db: Database, threads: Threads) -> None:
    prefix = f"{db.name}_app"
    try:
        made = [threads.start(schema.create_logins, db.admin, "first", prefix) for _ in range(4)]
        names = made[0].result(60)
        assert [future.result(60) for future in made] == [names] * 4
        assert schema.create_logins(db.admin, lambda name: f"of {name}", prefix) == names

        def login(use: str) -> psycopg.Connection[tuple[object, ...]]:
            dsn = psycopg.conninfo.make_conninfo(db.owner, user=names[use], password=f"of {names[use]}")
            return psycopg.connect(dsn, autocommit=True)

        with login("operator") as connection:
            assert connection.execute("""select submit('default', 'sleep', '{"max": 3}')""").fetchone()
            assert connection.execute("select count(*) from task").fetchone() == (1,)
            assert connection.execute("select queued from queue_overview").fetchone() == ("1",)
        with login("service") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from task")
        with login("viewer") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select submit('default', 'sleep')")
    finally:
        for use in schema.LOGINS:
            db.query(f'drop role if exists "{prefix}_{use}"')
