"""What the documentation shows is executed: SQL by psql, curl by a shell, Python by runners and by pytest."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate import schema
from lockgate.__main__ import main as lockgate
from lockgate.postgres import binaries
from tests.contract import Contract, Task, until
from tests.database import Database
from tests.docs.markdown import DOCUMENTS, ROOT, blocks
from tests.runner.conftest import Start

ADMINISTRATOR = "-- as an administrator\n"
LOGINS = ("shop_api", "shop_viewer")


def psql(dsn: str, text: str) -> str:
    done = subprocess.run(
        [binaries.find() / "psql", dsn, "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"],
        input=text, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{text}"
    assert not done.stderr
    return done.stdout


@pytest.fixture
def operator(db: Database) -> str:
    """The login that `migrate` and `up` make for people."""
    return make_conninfo(db.service, user=str(conninfo_to_dict(db.service)["user"]).replace("_service", "_operator"))


@pytest.fixture
def logins(db: Database) -> Iterator[dict[str, str]]:
    """Names for the logins of the examples that nobody else on this server has."""
    names = {name: f"{db.name}_{name}" for name in LOGINS}
    yield names
    for name in names.values():
        role = sql.Identifier(name)
        if db.value("select true from pg_roles where rolname = %s", name):
            with db.connect("admin") as connection:
                connection.execute(sql.SQL("drop owned by {}").format(role))
                connection.execute(sql.SQL("drop role {}").format(role))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_sql_works_as_written(q: Contract, db: Database, operator: str, logins: dict[str, str], document: str) -> None:
    for _ in range(20):
        q.submit()
    q.change(19, status="failed", finish_time=q.now(), error="{}")
    for block in blocks(document, "sql"):
        text = re.sub(r"\\watch \d+", r"\\watch i=0.01 c=2", block.text)
        dsn = operator
        if text.startswith(ADMINISTRATOR):
            dsn = db.admin
            for name, its_own in logins.items():
                text = text.replace(name, its_own)
        try:
            psql(dsn, text if text.rstrip().endswith((";", "c=2")) else f"{text};")
        except AssertionError as error:
            error.add_note(block.place)
            raise


def test_the_viewer_of_the_example_sees_who_is_silent(db: Database, start: Start, logins: dict[str, str]) -> None:
    for block in blocks("docs/security.md", "sql"):
        if block.text.startswith(ADMINISTRATOR):
            psql(db.admin, re.sub("|".join(LOGINS), lambda found: logins[found[0]], block.text))
    start().says("slot taken")
    viewer = make_conninfo(db.viewer, user=logins["shop_viewer"], password="change-me")
    assert psql(viewer, "select current_user;") == f"{logins['shop_viewer']}\n"
    silent = "select count(*) from slot_overview where seconds_silent is not null;"
    assert psql(viewer, silent) == "1\n"
    assert psql(db.viewer, silent) == "0\n"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_curl_lines_work_as_written(db: Database, service: str, document: str) -> None:
    for block in blocks(document, "sh"):
        for line in block.text.splitlines():
            if line.startswith("curl") and ":15672/" not in line:  # that is the broker's: see tests/containers
                command = line.replace("localhost:8000", service).replace("curl -s", "curl -s --fail-with-body", 1)
                done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"
    if document == "README.md":
        assert db.value("select count(*) from task where kind = 'sleep'") == 1


def command_lines() -> list[tuple[str, str]]:
    """Every `lockgate ...` in a shell example, and where it stands."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "sh"):
            for line in block.text.splitlines():
                words = re.match(r"(?:[A-Z_]+=\S+ )*(?:.*uv run )?lockgate (.+)", line)
                if words:
                    found.append((block.place, words[1]))
    return found


@pytest.mark.parametrize(("place", "line"), command_lines())
def test_commands_have_the_options_they_are_shown_with(place: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/none")
    name, *arguments = shlex.split(line)
    command = lockgate.get_command(click.Context(lockgate), name)
    assert command, f"{place}: lockgate {name}"
    command.make_context(name, arguments)


# Python ---------------------------------------------------------------------------------------------------------------


def write_files(document: str, folder: Path) -> list[str]:
    """Every Python example that begins with the name of its file; the names of the modules."""
    names = []
    for block in blocks(document, "python"):
        name = re.match(r"# (\w+)\.py\n", block.text)
        assert name, f"{block.place} does not begin with the name of its file"
        (folder / f"{name[1]}.py").write_text(block.text)
        names.append(name[1])
    return names


def test_the_tests_of_the_examples_pass(tmp_path: Path) -> None:
    names = write_files("docs/handlers.md", tmp_path)
    assert "test_work" in names
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def serve(document: str, folder: Path, start: Start) -> None:
    modules = [name for name in write_files(document, folder) if not name.startswith(("test_", "client_"))]
    start(cwd=folder, handlers=",".join(modules)).says("slot taken")


def ended(q: Contract, kind: str, payload: Any, **named: Any) -> Task:
    number = q.submit(kind=kind, payload=payload, **named)
    return until(lambda: (row := q.task(number)).status not in ("queued", "running") and row, f"{kind} to end")


def test_a_runner_serves_the_handlers_of_the_readme(q: Contract, start: Start, tmp_path: Path) -> None:
    serve("README.md", tmp_path, start)
    assert ended(q, "thumbnail", {"path": "cat.jpg"}).status == "succeeded"
    charged = ended(q, "billing.charge", {"customer": 1, "cents": 100})
    assert (charged.status, charged.error["type"]) == ("scheduled", "Retry")
    assert 3500 < (charged.run_at - q.now()).total_seconds() < 3600


def test_a_runner_serves_the_handlers_of_the_guide(q: Contract, db: Database, start: Start, tmp_path: Path) -> None:
    serve("docs/handlers.md", tmp_path, start)
    (tmp_path / "poem.txt").write_text("so much depends upon")
    results: dict[str, tuple[Any, Any]] = {
        "word_count": ({"path": str(tmp_path / "poem.txt")}, 4),
        "billing.invoice": ({"customer": 7, "cents": 1999}, {"customer": 7, "cents": 1999}),
        "orders.pack": ({"customer": 7, "items": ["ink", "paper"], "due": "2026-05-01T12:00:00Z"}, 2),
        "ledger.set_balance": ({"account": "a", "cents": 5}, True),
        "export.run": ({"rows": 3, "pause": 0}, 3),
        "language.name": ({"code": "de"}, "German"),
        "convert.sort": ({"lines": ["b", "a"]}, ["a", "b"]),
    }
    for kind, (payload, result) in results.items():
        row = ended(q, kind, payload)
        assert (row.status, row.result) == ("succeeded", result), row.error
    misfit = ended(q, "orders.pack", {"customer": 7, "items": [], "colour": "red"}, max_attempts=1)
    assert (misfit.status, misfit.error["type"]) == ("failed", "ValidationError")
    assert "colour" in misfit.error["message"]
    assert ended(q, "bank.pay", {"iban": "XX", "open": True}).status == "failed"
    assert ended(q, "bank.pay", {"iban": "DE02", "open": False}).status == "scheduled"
    assert str(ended(q, "bank.pay", {"iban": "DE02", "open": True}).result).startswith("paid as task-")
    unknown = ended(q, "thumbnail", {}, max_attempts=1)
    assert unknown.error["type"] == "LookupError"


@pytest.mark.parametrize("document", ["README.md", "docs/clients.md"])
def test_programs_that_submit_tasks_work_as_written(
    db: Database, service: str, start: Start, tmp_path: Path, document: str
) -> None:
    serve("README.md", tmp_path, start)
    programs = [name for name in write_files(document, tmp_path) if name.startswith("client_")]
    assert programs
    for name in programs:
        program = tmp_path / f"{name}.py"
        program.write_text(program.read_text().replace("localhost:8000", service))
        done = subprocess.run(
            [sys.executable, program], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_a_cancelled_export_cleans_up(q: Contract, start: Start, tmp_path: Path) -> None:
    serve("docs/handlers.md", tmp_path, start)
    number = q.submit(kind="export.run", payload={"rows": 100000, "pause": 0.05})
    until(lambda: q.task(number).progress, "some rows")
    assert list(tmp_path.glob("export-*.part"))
    q.cancel(number)
    until(lambda: q.task(number).status == "cancelled", "the export to be cancelled")
    assert not list(tmp_path.glob("export-*"))


def test_a_lower_lease_does_not_overwrite_a_higher_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files("docs/handlers.md", tmp_path)
    monkeypatch.chdir(tmp_path)
    program = (
        "import ledger; from lockgate.testing import execute\n"
        "for lease in (5, 4, 5, 6):\n"
        "  print(execute('ledger.set_balance', {'account': 'a', 'cents': lease}, lease=lease).result)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.split() == ["True", "False", "True", "True"]


def test_a_program_started_as_shown_ends_with_its_killed_runner(q: Contract, start: Start, tmp_path: Path) -> None:
    """The example with a program that goes on, under a runner that is killed; many times, for it is a race else."""
    (example,) = [block.text for block in blocks("docs/handlers.md", "python") if "setpriv" in block.text]
    assert '"sort"], input' in example
    q.db.query("update lockgate.queue set slots = 100, grace = 1")
    (tmp_path / "convert.py").write_text(example.replace('"sort"]', 'sys.executable, "nap.py"]').replace(
        "import subprocess", "import subprocess, sys"
    ))  # fmt: skip
    (tmp_path / "nap.py").write_text(
        "import os, pathlib, time\npathlib.Path(f'pid-{os.getpid()}').touch()\ntime.sleep(60)"
    )
    for _ in range(5):
        runner = start(cwd=tmp_path, handlers="convert")
        runner.says("slot taken")
        q.submit(kind="convert.sort", payload={"lines": []}, max_attempts=1)
        pid = until(lambda: next((path.name[4:] for path in tmp_path.glob("pid-*")), None), "the program")
        runner.kill()
        until(lambda pid=pid: not is_nap(pid), "the program to end")  # type: ignore[misc]
        (tmp_path / f"pid-{pid}").unlink()
        q.db.query("delete from lockgate.task")


def is_nap(pid: str) -> bool:
    try:
        return b"nap.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_logins_are_those_the_guide_names() -> None:
    text = (ROOT / "docs/security.md").read_text()
    assert all(f"_{use}`" in text for use in schema.LOGINS)
