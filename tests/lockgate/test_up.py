"""`lockgate up`, real and whole: what it starts, what it replaces, how it stops, how it is refused."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from lockgate.local.stack import _moved
from lockgate.postgres.server import Server, available, free_port, port_obstacle
from tests.contract import until
from tests.database import PASSWORD, Database
from tests.lockgate.up import LIMIT, Up, descendants, is_running, listening, lockgate

pytestmark = pytest.mark.skipif(not available(), reason="the wheel of the embedded server is not installed")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lgt-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """One for the tests that leave it as it is."""
    with tempfile.TemporaryDirectory(prefix="lgt-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        with Up(Path(name), "--slots", "3") as running:
            yield running


def ask(url: str, body: Any = None) -> Any:
    answer = httpx.get(url, timeout=LIMIT) if body is None else httpx.post(url, json=body, timeout=LIMIT)
    return answer.raise_for_status().json()


def executed(url: str) -> None:
    """Make a task and wait until it has succeeded."""
    task = ask(f"{url}/tasks", {"kind": "sleep", "payload": {"max": 0}})["id"]
    until(lambda: ask(f"{url}/tasks/{task}")["status"] == "succeeded", f"task {task} to succeed", LIMIT)


def test_what_it_prints_can_be_pasted(up: Up) -> None:
    assert httpx.get(up.line("The API"), timeout=LIMIT).status_code == 200
    made = subprocess.run(["/bin/sh", "-c", up.line("Make a task")], capture_output=True, timeout=10, check=True)
    task = json.loads(made.stdout)["id"]
    assert json.loads(ask_psql(up, "select to_json(q) from queue_overview q"))["slots"] == 3
    assert int(ask_psql(up, up.line("select submit").join(["select submit", ""]))) > task
    assert ask_psql(up, f"select kind from task where id = {task}") == "sleep"

    command = ["/bin/sh", "-c", up.line("In SQL")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0) as psql:
        assert psql.stdin
        assert psql.stdout
        psql.stdin.write("select * from queue_overview \\watch 1\n")
        psql.stdin.flush()
        for _ in range(2):
            while "default" not in psql.stdout.readline():
                assert psql.poll() is None
        os.killpg(psql.pid, signal.SIGKILL)


def ask_psql(up: Up, query: str, **settings: str) -> str:
    command = f'{up.line("In SQL")} -At -c "$1"'
    return subprocess.run(
        ["/bin/sh", "-c", command, "sh", query], env=os.environ | settings, stdout=subprocess.PIPE, text=True,
        timeout=20, check=True,
    ).stdout.strip()  # fmt: skip


def test_the_programs_use_logins_that_may_do_no_more_than_they_must(up: Up) -> None:
    executed(up.url)
    password, port = ((up.data / name).read_text().strip() for name in ("password", "port"))
    query = "select distinct usename from pg_stat_activity where backend_type = %s and pid <> pg_backend_pid()"
    with psycopg.connect(f"postgresql://lockgate:{password}@127.0.0.1:{port}/lockgate") as connection:
        users = {user for (user,) in connection.execute(query, ["client backend"])}
    users -= {"lockgate_app_operator"}  # a psql of another test, whose end the server may not have seen yet
    assert users == {"lockgate_app_runner", "lockgate_app_service"}
    for word in (password, "lockgate_app_service:", "lockgate_app_runner:"):
        assert word not in up.output  # no password is printed


def test_other_commands_find_its_database_through_its_folder(up: Up) -> None:
    task = lockgate("submit", "sleep", '{"max": 0}', LOCKGATE_DATA=str(up.data)).stdout.strip()
    until(lambda: ask(f"{up.url}/tasks/{task}")["status"] == "succeeded", "the task to succeed", LIMIT)
    assert "2 runners" in lockgate("status", "--data", up.data).stdout
    assert lockgate("queues", "set", "default", "slots=3", "--data", up.data).returncode == 0
    assert lockgate("psql", "-X", "-A", "-t", "-c", "select 7", LOCKGATE_DATA=str(up.data)).stdout == "7\n"


def test_a_second_one_on_the_same_folder_is_refused_in_one_line(up: Up) -> None:
    second = lockgate("up", "--data", up.data)
    assert second.returncode == 1
    assert second.stderr == f"lockgate: the data folder {up.data} is in use by process {up.process.pid}\n"
    executed(up.url)


def test_a_taken_port_is_said_in_one_line_and_leaves_no_process(up: Up, folder: Path) -> None:
    other = lockgate("up", "--data", folder / "other", "--port", str(up.port))
    assert other.returncode == 1
    assert other.stderr == f"lockgate: port {up.port} of 127.0.0.1 is taken; choose another with --port\n"
    with Server(folder / "other"):
        pass  # nobody holds it


def test_ctrl_c_stops_all_in_order_and_leaves_no_process(folder: Path) -> None:
    with Up(folder) as up:
        executed(up.url)
        task = ask(f"{up.url}/tasks", {"kind": "sleep", "payload": {"min": 8, "max": 8}})["id"]
        until(lambda: ask(f"{up.url}/tasks/{task}")["status"] == "running", "the task to run", LIMIT)
        started = descendants(up.process.pid)
        up.interrupt()
        assert up.process.wait(LIMIT) == 0
        until(lambda: not [pid for pid in started if is_running(pid)], "all of them to be gone", LIMIT)
        said = up.output.replace('"event": ', '"event":')  # as the service writes it, as the runner does
        last = [said.rindex(f'"event":"{event}"') for event in ("stopping", "slot released", "stopped")]
        assert last == sorted(last)
    with Server(folder / "data") as server, psycopg.connect(server.dsn()) as connection:
        assert connection.execute("select status from lockgate.task where id = %s", [task]).fetchone() == ("succeeded",)
    assert "not properly shut down" not in (folder / "data/server.log").read_text()


def test_a_second_ctrl_c_hurries_and_the_task_is_given_back(folder: Path) -> None:
    with Up(folder) as up:
        task = ask(f"{up.url}/tasks", {"kind": "sleep", "payload": {"min": 300, "max": 300}})["id"]
        until(lambda: ask(f"{up.url}/tasks/{task}")["status"] == "running", "the task to run", LIMIT)
        up.interrupt()
        up.says('"event":"stopping"')
        up.interrupt()
        assert up.process.wait(20) == 0
    with Server(folder / "data") as server, psycopg.connect(server.dsn()) as connection:
        row = connection.execute("select status, attempt from lockgate.task where id = %s", [task]).fetchone()
        assert row == ("queued", 0)


def test_ctrl_c_while_the_database_is_made_leaves_no_process_and_nothing_half_made(folder: Path) -> None:
    up = Up(folder)
    up.child("initdb")
    started = descendants(up.process.pid)
    up.interrupt()
    assert up.process.wait(20) == 0
    until(lambda: not [pid for pid in started if is_running(pid)], "what initdb started to be gone")
    with Server(folder / "data") as server, psycopg.connect(server.dsn()) as connection:
        assert connection.execute("select 1").fetchone()


def test_nothing_survives_its_sigkill_and_the_next_one_takes_over(folder: Path) -> None:
    with Up(folder) as up:
        executed(up.url)
        started = descendants(up.process.pid)
        up.process.kill()
        up.process.wait()
        with Up(folder) as successor:
            executed(successor.url)
            assert not [pid for pid in started if is_running(pid)]


def test_whatever_dies_is_said_and_started_again(folder: Path) -> None:
    with Up(folder, "--runners", "1") as up:
        executed(up.url)
        os.kill(up.child("-m lockgate_runner"), signal.SIGKILL)
        up.says("lockgate: a runner died (killed by SIGKILL); another has its place")
        executed(up.url)
        os.kill(up.child("postgres -D"), signal.SIGKILL)
        up.says("lockgate: the database server died; starting it again")
        until(lambda: is_ready(up.url), "the service to be ready again", LIMIT)
        executed(up.url)
        os.kill(up.child("-m lockgate_service"), signal.SIGKILL)
        up.says("lockgate: the service died (killed by SIGKILL); starting it again")
        until(lambda: is_ready(up.url), "the service to be ready again", LIMIT)
        executed(up.url)


def is_ready(url: str) -> bool:
    try:
        return bool(ask(f"{url}/health/ready"))
    except httpx.HTTPError:
        return False


def test_a_database_of_yours_is_used_as_it_is(folder: Path, db: Database) -> None:
    with Up(folder, DATABASE_URL=db.owner) as up:
        executed(up.url)
        assert not [command for command in descendants(up.process.pid).values() if "postgres" in command]
        assert not (folder / "data").exists()
        assert "password" not in up.output
        assert ask_psql(up, "select queue from queue_overview", PGPASSWORD=PASSWORD) == "default"
    assert db.value("select count(*) from lockgate.task where status = 'succeeded'") == 1


def test_where_a_key_is_needed_its_greeting_says_where_that_goes(folder: Path, db: Database) -> None:
    db.query("select lockgate.add_key('aaaaaaaaaaaa', 'web', sha256('secret'), 'read')")
    with Up(folder, "--runners", "0", DATABASE_URL=db.owner) as up:
        assert "-H 'authorization: Bearer YOUR-KEY'" in up.line("Make a task")


def test_where_others_could_connect_it_wants_a_key_first(folder: Path) -> None:
    up = Up(folder, "--host", "0.0.0.0")  # noqa: S104  it is refused
    assert up.process.wait(LIMIT) == 1
    assert "make a key first (lockgate keys add NAME), or say so (--open)" in up.output
    assert "Traceback" not in up.output


def test_handlers_that_cannot_be_loaded_end_it_with_their_error(folder: Path) -> None:
    up = Up(folder, LOCKGATE_HANDLERS="no_such_module")
    assert up.process.wait(LIMIT) == 1
    assert "lockgate: the runner did not start (exit code 1); its own words are above\n" in up.output
    assert "no_such_module" in up.output.split("lockgate: the runner did not start")[0]
    assert "Traceback" not in up.output


def test_each_runner_has_a_port_for_its_metrics_also_after_it_was_replaced(folder: Path) -> None:
    first = next(port for port in iter(free_port, 0) if not port_obstacle(port + 1))

    def serving() -> list[int]:
        """The process that serves each port; those of which nobody does are left out."""
        found = []
        for port in (first, first + 1):
            with contextlib.suppress(httpx.TransportError):
                assert "process_start_time_seconds" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT).text
                found += listening(port)
        return found

    with Up(folder, LOCKGATE_METRICS=f"127.0.0.1:{first}") as up:
        before = until(lambda: len(found := serving()) == 2 and found, "both to be served", LIMIT)
        os.kill(up.child("-m lockgate_runner"), signal.SIGKILL)
        up.says("a runner died")
        after = until(lambda: len(found := serving()) == 2 and found != before and found, "both again", LIMIT)
        assert len({*before, *after}) == 3


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, [None, None]), ("0", ["0", "0"]), ("9101", ["9101", "9102"]), ("0.0.0.0:0", ["0.0.0.0:0"] * 2),
        ("[::1]:9101", ["[::1]:9101", "[::1]:9102"]), ("here", ["here", "here"]),
    ],
)  # fmt: skip
def test_ports_are_counted_from_the_first(address: str | None, expected: list[str | None]) -> None:
    assert [_moved(address, number) for number in range(2)] == expected


def test_a_port_that_there_cannot_be_is_refused(folder: Path) -> None:
    done = lockgate("up", "--data", folder / "data", "--port", str(free_port()), LOCKGATE_METRICS="65535")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "lockgate: LOCKGATE_METRICS=65535: there is no port for runner 2"
