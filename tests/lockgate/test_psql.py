"""`lockgate psql`: which program, with which words, on which database."""

from pathlib import Path

import pytest

from lockgate.postgres import binaries
from tests.database import Database
from tests.lockgate.up import lockgate

SHOWS = """#!/bin/sh
echo "password $PGPASSWORD"
for word in "$@"; do echo "word $word"; done
"""


def test_tables_are_found_without_their_schema(db: Database) -> None:
    shown = lockgate("psql", "-X", "-A", "-t", "-c", "select count(*) from queue_overview", DATABASE_URL=db.service)
    assert (shown.returncode, shown.stdout) == (0, "1\n"), shown.stderr


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with a psql that shows what it was given."""
    psql = tmp_path / "psql"
    psql.write_text(SHOWS)
    psql.chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


def test_the_password_is_not_on_the_command_line_and_words_are_handed_on(path: str) -> None:
    url = "postgresql://me:secret@somewhere:5433/mine?options=-c%20jit%3Doff&sslmode=require"
    shown = lockgate("psql", "--csv", "-c", "select 1; --x", "-h", PATH=path, DATABASE_URL=url).stdout.splitlines()
    assert shown[0] == "password secret"
    assert shown[-4:] == ["word --csv", "word -c", "word select 1; --x", "word -h"]
    [conninfo] = [word for word in shown if "dbname=" in word]
    for said in ("host=somewhere", "port=5433", "user=me", "sslmode=require", "-c jit=off -c search_path=lockgate"):
        assert said in conninfo
    assert "secret" not in conninfo


def test_options_of_the_environment_are_kept(path: str) -> None:
    shown = lockgate("psql", PATH=path, DATABASE_URL="host=somewhere dbname=mine", PGOPTIONS="-c jit=off").stdout
    assert "options='-c jit=off -c search_path=lockgate,public'" in shown


def test_without_one_on_the_path_the_bundled_one_is_used_or_it_is_said(db: Database, tmp_path: Path) -> None:
    shown = lockgate("psql", "-X", "-A", "-t", "-c", "select 7", PATH=str(tmp_path), DATABASE_URL=db.service)
    try:
        binaries.find()
    except binaries.NotInstalledError:
        assert shown.stderr.startswith("lockgate: there is no psql on PATH: ")
    else:
        assert (shown.returncode, shown.stdout) == (0, "7\n"), shown.stderr
