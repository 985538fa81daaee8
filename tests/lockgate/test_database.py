"""Which database a command asks, and what it says when that one will not do."""

import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from lockgate.__main__ import main
from lockgate.postgres.data_dir import DataDir
from lockgate.postgres.server import free_port
from lockgate.schema import VERSION
from tests.contract import Contract
from tests.database import Database
from tests.lockgate.ask import ask, line


def test_without_any_it_is_said_how_to_give_one(tmp_path: Path) -> None:
    assert line(ask("", "list", LOCKGATE_DATA=str(tmp_path))) == (
        f"no database: DATABASE_URL is not set, and no `lockgate up` is running on {tmp_path} (--data)"
    )


def test_a_folder_that_nobody_holds_any_more_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "pgpass").write_text("127.0.0.1:1:lockgate:somebody:secret\n")
    (tmp_path / "lock").write_text("1\n")
    assert "no `lockgate up` is running" in line(ask("", "list", "--data", tmp_path))


def test_a_folder_is_held_from_take_to_release() -> None:
    with tempfile.TemporaryDirectory(prefix="lgt-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        folder, eye = DataDir(Path(name) / "data"), DataDir(Path(name) / "data")
        assert not eye.is_held()
        folder.take()
        assert eye.is_held()
        folder.release()
        assert not eye.is_held()


def test_a_url_in_a_file_will_do(db: Database, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(db.service + "\n")
    env = {"DATABASE_URL": None, "DATABASE_URL_FILE": str(tmp_path / "url"), "LOCKGATE_DATA": str(tmp_path)}
    assert CliRunner().invoke(main, ["list"], env=env).exit_code == 0


def test_the_folder_on_the_command_line_wins_over_the_variable(db: Database, tmp_path: Path) -> None:
    assert "no `lockgate up` is running" in line(ask(db, "list", "--data", tmp_path))
    both = ask(db, "list", "--data", tmp_path, "--database-url", db.service)
    assert both.exit_code == 2
    assert "are two databases; give one" in both.stderr


def test_what_queues_is_told_holds_for_its_commands(db: Database, tmp_path: Path) -> None:
    assert "no `lockgate up` is running" in line(ask(db, "queues", "--data", tmp_path, "pause", "default"))
    assert ask("host=", "queues", "--database-url", db.service, "pause", "default").exit_code == 0
    assert ask("host=", "queues", "pause", "default", "--database-url", db.service).exit_code == 0


COMMANDS = ["list", "submit sleep", "cancel 1", "status", "queues", "queues delete default"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_not_there_is_said_without_its_password(command: str) -> None:
    said = line(ask(f"postgresql://me:secret@127.0.0.1:{free_port()}/mine", *command.split()))
    assert said.startswith("the database cannot be reached: ")
    assert "secret" not in said


def test_a_url_that_is_none_is_said_without_repeating_it() -> None:
    said = line(ask("postgres//me:secret@host/mine", "list"))
    assert said.startswith("DATABASE_URL is not a connection string")
    assert "secret" not in said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_without_the_schema_says_to_migrate(db: Database, command: str) -> None:
    db.query("drop schema lockgate cascade")
    said = line(ask(db, *command.split()))
    assert said == "this database has no Lockgate schema: run `lockgate migrate`"


def test_an_older_schema_says_to_migrate(db: Database) -> None:
    db.query("update lockgate.release set version = 0")
    assert line(ask(db, "list")) == (
        f"the schema of this database has version 0, older than this program's {VERSION}: run `lockgate migrate`"
    )


def test_a_newer_schema_is_noted_and_used(db: Database) -> None:
    db.query("update lockgate.release set version = 99")
    submitted = ask(db, "submit", "sleep")
    assert submitted.exit_code == 0
    assert submitted.stdout == "1\n"
    assert submitted.stderr.startswith("lockgate: the schema of this database has version 99, newer than ")


def test_a_login_that_may_not_is_told_so(q: Contract, db: Database) -> None:
    q.submit()
    said = line(ask(db.viewer, "cancel", "1"))
    assert said.startswith("the login of DATABASE_URL may not do this: permission denied for function cancel")
