"""Any released version is brought forward by applying schema.sql, and keeps its data.

A release leaves tests/releases/VERSION.sql behind: pg_dump of a database with tasks in every status.
"""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from lockgate.postgres import binaries
from lockgate.schema import apply
from tests.contract import Contract
from tests.database import Database

RELEASES = sorted((Path(__file__).parents[1] / "releases").glob("*.sql"))


def shape(dsn: str) -> list[str]:
    """The schema as pg_dump tells it, without what a dump and its restoration write differently."""
    dump = subprocess.run(
        [binaries.find() / "pg_dump", "--schema-only", "--schema=lockgate", "--no-owner", "--no-comments", dsn],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    lines = (re.sub(r"[()\s,]", "", line) for line in dump.splitlines() if not line.startswith(("--", "\\", "SET ")))
    return sorted(line for line in lines if line)


@pytest.fixture(params=RELEASES, ids=lambda path: path.stem)
def old(db: Database, request: pytest.FixtureRequest) -> Database:
    """A database of that release, with its tasks."""
    release: Path = request.param
    with psycopg.connect(db.owner, autocommit=True) as owner:
        owner.execute("drop schema lockgate cascade")
        owner.execute(release.read_text())
    return db


def test_an_upgraded_schema_is_the_same_as_a_new_one(old: Database, pg_template: object) -> None:
    apply(old.owner)
    upgraded = shape(old.owner)
    with psycopg.connect(old.owner, autocommit=True) as owner:
        owner.execute("drop schema lockgate cascade")
    apply(old.owner)
    assert upgraded == shape(old.owner)


def test_an_upgrade_keeps_every_task_and_its_life_goes_on(old: Database) -> None:
    before = old.query("select id, status::text, payload, result, error, attempt, lease from lockgate.task order by id")
    assert {row[1] for row in before} == {"scheduled", "queued", "running", "succeeded", "failed", "cancelled"}
    apply(old.owner)
    assert before == old.query(
        "select id, status::text, payload, result, error, attempt, lease from lockgate.task order by id"
    )
    q = Contract(old)
    new = q.submit(queue="gpu", priority=9)
    assert new > max(row[0] for row in before)
    runner = q.runner()
    claimed = runner.work(queue="gpu")
    assert (claimed.task, claimed.lease > max(row[6] or 0 for row in before)) == (new, True)
    assert runner.finish(claimed)


def test_a_time_of_more_than_four_digits_of_years_stops_no_upgrade(old: Database) -> None:
    old.query("update lockgate.task set run_at = '10000-01-01 00:00:00+00' where status = 'scheduled'")
    apply(old.owner)
    assert old.value("select max(run_at)::text from lockgate.task").startswith("9999-12-31")


def test_applying_a_file_to_a_newer_schema_touches_nothing(db: Database) -> None:
    db.query("update lockgate.release set version = 1000")
    assert apply(db.owner) == 1000
