"""The text of the schema: all ways to apply it come to the same, mistakes are named by file and line, versions."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from lockgate import schema
from lockgate.errors import UserError
from lockgate.postgres import binaries
from tests.contract import Contract, Threads, until
from tests.database import Database
from tests.lockgate.up import lockgate
from tests.mutants.mutant import CHECKOUT

FILES = ["schema.sql", *sorted(f"schema/{path.name}" for path in (CHECKOUT / "schema").glob("*.sql"))]


def by_psql(dsn: str, folder: Path = CHECKOUT) -> str:
    """Applies schema.sql as its essay says; what psql said on stderr."""
    command = [str(binaries.find() / "psql"), "-X", "-q", "-1", "-f", "schema.sql", dsn]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stderr


def by_any_client(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(lockgate("schema").stdout.encode())


def by_migrate(dsn: str) -> None:
    assert lockgate("migrate", DATABASE_URL=dsn).returncode == 0


def dump(dsn: str) -> str:
    """The schema as pg_dump tells it, without the random key of its \\restrict."""
    command = [str(binaries.find() / "pg_dump"), "--schema-only", "--schema=lockgate", dsn]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


def shape(dsn: str) -> list[str]:
    """The lines of a dump without their order: a column that was added later comes last. Without the columns that the
    function `running` had when a view was made."""
    text = re.sub(r"(lockgate\.running\(\) \w+)\(.*?\)", r"\1", dump(dsn))
    return sorted(filter(None, (re.sub(r"[()\s,]", "", line) for line in text.splitlines())))


@pytest.fixture
def empty(db: Database) -> Database:
    """A database without the schema."""
    db.query("drop schema lockgate cascade")
    return db


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the schema's files, to be changed."""
    shutil.copytree(CHECKOUT / "schema", tmp_path / "schema")
    shutil.copy(CHECKOUT / "schema.sql", tmp_path)
    return tmp_path


def replace(file: Path, old: str, new: str) -> int:
    """Changes one place of a file; the number of its line."""
    text = file.read_text()
    assert text.count(old) == 1, old
    file.write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize("way", [by_psql, by_migrate, by_any_client], ids=lambda way: way.__name__)
def test_all_ways_to_apply_it_come_to_the_same(db: Database, way: Callable[[str], object]) -> None:
    expected = dump(db.owner)
    db.query("drop schema lockgate cascade")
    way(db.owner)
    assert dump(db.owner) == expected
    assert not db.query(
        "select proname from pg_proc where pronamespace = 'lockgate'::regnamespace"
        " and has_function_privilege('public', oid, 'execute')"
    )
    assert lockgate("migrate", DATABASE_URL=db.owner).stdout == f"schema: version {schema.VERSION}\n"


def test_the_text_for_any_client_has_no_psql_commands_and_the_files_have_two() -> None:
    assert not [line for line in lockgate("schema").stdout.splitlines() if line.startswith("\\")]
    assert (CHECKOUT / "schema.sql").read_text().startswith("\\set ON_ERROR_STOP on\n")
    commands = [line for file in FILES for line in (CHECKOUT / file).read_text().splitlines() if line.startswith("\\")]
    assert sorted(commands) == sorted([r"\set ON_ERROR_STOP on", *(rf"\ir {file}" for file in FILES[1:])])


# Text that is once in its file and that a typo breaks: in a statement of one line and in the body of a function.
TYPOS = [
    ("schema.sql", "create schema lockgate;", "creat schema lockgate;"),
    ("schema.sql", "    for update skip locked\n", "    for update skip lockd\n"),
    ("schema/outbox.sql", "  select count(*)::int from gone\n", "  select count(*)::int frm gone\n"),
]


@pytest.mark.parametrize(("file", "right", "wrong"), TYPOS, ids=["statement", "function", "chapter"])
def test_a_typo_is_named_by_its_file_and_line(empty: Database, copied: Path, file: str, right: str, wrong: str) -> None:
    line = replace(copied / file, right, wrong)
    with pytest.raises(UserError, match=rf"^{re.escape(file)}:{line}: ") as refused:
        schema.apply(empty.owner, schema.load(copied))
    assert "\n" not in str(refused.value)
    said = by_psql(empty.owner, copied)
    # psql names the line on which the statement ends, and shows the line of the mistake.
    ending = re.search(rf"psql:{re.escape(file)}:(\d+): ERROR: ", said)
    assert ending, said
    assert line <= int(ending[1])
    assert wrong.strip() in said
    assert empty.query("select 1 from pg_namespace where nspname = 'lockgate'") == []


def test_another_text_of_the_same_version_is_refused_in_one_line(db: Database, copied: Path) -> None:
    replace(
        copied / "schema.sql",
        "comment on schema lockgate is 'A task queue",
        "comment on schema lockgate is 'The task queue",
    )
    with pytest.raises(UserError, match=r"drop schema lockgate cascade.*starts afresh$"):
        schema.apply(db.owner, schema.load(copied))
    db.query("update lockgate.release set digest = null")  # psql applied the files, and knows no digest
    assert schema.apply(db.owner, schema.load(copied)) == schema.VERSION


def test_a_newer_schema_is_left_as_it_is(db: Database) -> None:
    db.query("update lockgate.release set version = 1000")
    assert schema.apply(db.owner) == 1000


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        (
            "revoke execute on function lockgate.submit from lockgate_service",
            "has_function_privilege('lockgate_service', 'lockgate.submit', 'execute')",
        ),
        (
            "revoke usage on schema lockgate from lockgate_runner",
            "has_schema_privilege('lockgate_runner', 'lockgate', 'usage')",
        ),
        (
            "grant execute on function lockgate.remove to public",
            "not has_function_privilege('lockgate_viewer', 'lockgate.remove(bigint[])', 'execute')",
        ),
    ],
    ids=["function", "schema", "public"],
)
def test_migrate_mends_grants_of_a_current_schema(db: Database, broken: str, whole: str) -> None:
    whole = whole.replace("'lockgate.submit'", "(select oid from pg_proc where proname = 'submit')")
    db.connect("owner").execute(broken)
    assert db.value(f"select {whole}") is False
    assert schema.apply(db.viewer) == schema.VERSION  # who does not own it leaves it alone
    assert db.value(f"select {whole}") is False
    assert lockgate("migrate", DATABASE_URL=db.owner).returncode == 0
    assert db.value(f"select {whole}") is True


# Migrations ----------------------------------------------------------------------------------------------------------

COLUMN = "  turn bigint,\n  constraint task_pkey"
NOTE = """
create function lockgate.note(p_task bigint) returns text
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select note from lockgate.task where id = p_task $$;
comment on function lockgate.note is 'A note about a task.';
"""
MIGRATION = "alter table lockgate.task add column note text;\n" + NOTE


@pytest.fixture
def second(copied: Path) -> schema.Schema:
    """A version 2: a column of `task`, a function that reads it, a grant; and the migration to it."""
    replace(copied / "schema.sql", "(version) values (1)", "(version) values (2)")
    replace(copied / "schema.sql", COLUMN, COLUMN.replace("turn bigint,", "turn bigint,\n  note text,"))
    text = (copied / "schema" / "lists.sql").read_text()
    (copied / "schema" / "lists.sql").write_text(text + NOTE)
    with (copied / "schema.sql").open("a") as file:
        file.write("grant execute on function lockgate.note to lockgate_viewer;\n")
    (copied / "schema" / "migrations" / "2.sql").write_text(MIGRATION)
    return schema.load(copied)


def test_an_old_schema_and_the_migration_come_to_the_same_as_a_fresh_one(q: Contract, second: schema.Schema) -> None:
    number = q.submit()
    assert schema.apply(q.db.owner, second) == 2
    migrated = shape(q.db.owner)
    assert q.task(number).status == "queued"
    runner = q.runner()
    assert runner.finish(runner.work())
    assert q.db.query("select version, digest from lockgate.release") == [(2, second.digest)]
    q.db.query("drop schema lockgate cascade")
    assert schema.apply(q.db.owner, second) == 2
    assert migrated == shape(q.db.owner)


def test_every_version_has_its_migration() -> None:
    there = {path.name for path in (CHECKOUT / "schema" / "migrations").glob("*.sql")}
    assert there == {f"{number}.sql" for number in range(2, schema.VERSION + 1)}


MILLION = """
insert into lockgate.task (queue, kind, status, finish_time, max_attempts, payload)
select 'default', 'k', 'succeeded', now(), 1, '{}' from generate_series(1, 1000000)
"""
SLOW = "alter table lockgate.task add column note text;\nselect pg_sleep(3);\n"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("migration", "holds_up"), [(MIGRATION, False), (SLOW, True)], ids=["sample", "slow"])
def test_a_migration_holds_up_no_runner_for_longer_than_a_second(
    q: Contract, second: schema.Schema, threads: Threads, migration: str, holds_up: bool
) -> None:
    """On a million tasks, with old runners at work: their sessions give up on a lock after a second. The rule that
    schema/migrations/README.md has, and a migration that breaks it."""
    q.db.query("alter table lockgate.task set (autovacuum_enabled = false)")
    q.db.query("select" if holds_up else MILLION)
    (second.folder / "schema" / "migrations" / "2.sql").write_text(migration)
    q.set_slots(2)
    done: list[int] = []
    is_over = False

    def work(slot: int) -> str | None:
        """A runner that executes tasks until the migration is done; the SQLSTATE of what it could not do."""
        runner = q.runner()
        runner.conn.execute("set lock_timeout = '1s'")
        with psycopg.connect(q.db.service, autocommit=True) as client:
            client.execute("set lock_timeout = '1s'")
            try:
                runner.take(slot)
                while not is_over:
                    client.execute("select lockgate.submit('default', 'sleep')")
                    if claimed := runner.claim(slot):
                        runner.finish(claimed)
                        done.append(claimed.task)
            except psycopg.errors.LockNotAvailable as error:
                return error.sqlstate
        return None

    runners = [threads.start(work, slot) for slot in (1, 2)]
    try:
        until(lambda: len(done) > 20, "the runners to work")
        if holds_up:
            q.db.connect("owner").execute(migration)
        else:
            assert schema.apply(q.db.owner, second) == 2
        before = len(done)
        until(lambda: holds_up or len(done) > before + 20, "the runners to go on")
    finally:
        is_over = True
        gave_up = [future.result(60) for future in runners]
    assert gave_up == ["55P03" if holds_up else None] * 2
