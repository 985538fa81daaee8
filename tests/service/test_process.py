"""`python -m lockgate_service` as people and supervisors meet it."""

import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner
from lockgate_service.__main__ import main
from lockgate_service.options import is_loopback

from lockgate.schema import VERSION
from tests.contract import until
from tests.database import Database
from tests.lockgate.ask import Away
from tests.service.conftest import Process, ProcessStart, serving, until_ready


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_it_is_told_to(process: ProcessStart, db: Database, number: signal.Signals) -> None:
    one = serving(process, db.service)
    with one.client() as idle:  # keeps its connection open
        assert idle.post("/task").status_code == 202
        one.popen.send_signal(number)

        assert one.ended() == (0, "")

    assert not [line for line in one.lines if line["event"].startswith("Cancel")]  # said after waiting in vain
    assert one.lines[-1]["event"] == "stopped"
    until(
        lambda: not db.query("select 1 from pg_stat_activity where application_name = 'lockgate-service'"
                             " and datname = current_database()"),
        "its connections to be gone",
    )  # fmt: skip


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_first_packet(
    process: ProcessStart, db: Database
) -> None:
    one = serving(process, db.service)

    def seconds(client: httpx.Client) -> float:
        begin = time.monotonic()
        client.get("/health/live")
        return time.monotonic() - begin

    with one.client() as client:
        # It would be 0.04 and more for nearly all; a machine with much else to do is slow for some.
        assert sorted(seconds(client) for _ in range(60))[20] < 0.035


def test_a_taken_port_is_one_clear_line(process: ProcessStart, db: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        one = process("--port", str(port), DATABASE_URL=db.service)

        assert one.ended() == (1, f"lockgate: port {port} on 127.0.0.1 is taken\n")


def test_an_address_that_is_not_ours_is_one_clear_line(process: ProcessStart, db: Database) -> None:
    code, said = process("--host", "192.0.2.1", DATABASE_URL=db.service).ended()

    assert code == 1
    assert said.startswith("lockgate: cannot listen on port 8000 of 192.0.2.1: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://u:secret@h/d", "postgresql+psycopg://u:secret@h/d", "x=secret"]
)
def test_a_malformed_database_url_is_one_clear_line_without_the_url(url: str) -> None:
    result = CliRunner().invoke(main, ["--database-url", url])

    assert result.exit_code == 2
    assert result.output.startswith("lockgate: DATABASE_URL is not of the form postgresql://")
    assert result.output.count("\n") == 1
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "DATABASE_URL"),
        (["--database-url", "postgresql://h/d", "--port", "65536"], "0<=x<=65535"),
        (["--database-url", "postgresql://h/d", "--pool-size", "0"], "1<=x<=1000"),
        (["--database-url", "postgresql://h/d", "--log-format", "xml"], "'auto', 'json', 'console'"),
        (["--database-url", "postgresql://h/d", "--log-level", "loud"], "'debug', 'info', 'warning', 'error'"),
    ],
)
def test_an_option_out_of_range_is_refused(arguments: list[str], says: str) -> None:
    result = CliRunner(env={"DATABASE_URL": None, "DATABASE_URL_FILE": None}).invoke(main, arguments)

    assert result.exit_code == 2
    assert says in result.output


def test_options_come_from_the_environment_too(process: ProcessStart, db: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    one = process(
        DATABASE_URL=db.service, LOCKGATE_HOST="localhost", LOCKGATE_PORT=str(port), LOCKGATE_LOG_LEVEL="info"
    )

    assert one.url == f"http://127.0.0.1:{port}"


def in_time(one: Process) -> list[dict[str, Any]]:
    """Its log without what only a slow machine adds: that the database did not answer in time, and how it was then."""
    kept: list[dict[str, Any]] = []
    last, was_late = None, False
    for line in one.lines:
        if "did not answer" in str(line):
            was_late = True
            continue
        if line["event"] in ("ready", "not ready"):
            how = (line["event"], line.get("why"))
            is_repeated = was_late and how == last
            last, was_late = how, False
            if is_repeated:
                continue
        kept.append(line)
    return kept


def test_it_logs_a_json_line_for_every_request_but_those_about_health(process: ProcessStart, db: Database) -> None:
    one = serving(process, db.service)
    one.get("/tasks/7?x=secret")
    one.popen.terminate()
    one.ended()

    assert [line["event"] for line in in_time(one)] == ["listening", "ready", "request", "stopped"]
    request = one.said("request")
    assert request is not None
    assert (request["method"], request["path"], request["status"]) == ("GET", "/tasks/7", 400)
    assert "secret" not in str(one.lines)
    assert request["level"] == "info"
    assert request["milliseconds"] > 0


def test_it_logs_once_that_the_schema_is_missing_and_once_that_it_is_there(process: ProcessStart, db: Database) -> None:
    db.query("alter schema lockgate rename to elsewhere")
    one = process("--port", "0", DATABASE_URL=db.service)
    until(lambda: one.said("not ready"), "the log to say so")
    for _ in range(3):
        assert one.get("/health/ready").status_code == 503
    db.query("alter schema elsewhere rename to lockgate")
    until_ready(one)
    until(lambda: one.said("ready"), "the log to say so")

    told = [line for line in in_time(one) if line["event"] in ("ready", "not ready")]
    assert [line["event"] for line in told] == ["not ready", "ready"]
    assert "lockgate migrate" in told[0]["why"]


def test_too_old_a_schema_is_one_line_of_the_log_however_many_ask(process: ProcessStart, db: Database) -> None:
    db.query("update lockgate.release set version = 0")
    one = process("--port", "0", DATABASE_URL=db.service)
    for _ in range(3):
        assert one.post("/task").status_code == 503
    one.popen.terminate()
    one.ended()

    said = [line for line in in_time(one) if line["level"] not in ("info", "debug")]
    assert [(line["level"], line["event"]) for line in said] == [("error", "not ready")]
    assert said[0]["why"] == f"the schema has version 0, this service needs {VERSION}: run `lockgate migrate`"


def test_a_newer_schema_is_remarked_on_once_and_served(process: ProcessStart, db: Database) -> None:
    db.query("update lockgate.release set version = 99")
    one = serving(process, db.service)
    for _ in range(3):
        until(lambda: one.get("/health/ready").json() == {"schema_version": 99, "status": "ready"}, "it to be ready")
        assert one.post("/task").status_code == 202
    one.popen.terminate()
    one.ended()

    said = [line for line in one.lines if line["level"] == "warning"]
    assert [(line["event"], line["version"], line["known"]) for line in said] == [
        ("the schema is newer than this service", 99, VERSION)
    ]


def test_the_database_url_can_come_from_a_file(process: ProcessStart, db: Database, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(db.service + "\n")
    one = process("--port", "0", DATABASE_URL_FILE=str(tmp_path / "url"))

    until_ready(one)


def test_a_database_url_comes_before_a_file(process: ProcessStart, db: Database, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://127.0.0.1:1/nowhere")
    one = process("--port", "0", DATABASE_URL=db.service, DATABASE_URL_FILE=str(tmp_path / "url"))

    until_ready(one)


def test_a_file_that_cannot_be_read_is_one_clear_line(process: ProcessStart, tmp_path: Path) -> None:
    code, said = process("--port", "0", DATABASE_URL_FILE=str(tmp_path / "none")).ended()

    assert code == 2
    assert said.startswith("lockgate: DATABASE_URL_FILE: ")
    assert str(tmp_path / "none") in said
    assert said.count("\n") == 1


def test_no_password_is_logged_when_the_login_is_refused(process: ProcessStart, db: Database) -> None:
    wrong = psycopg.conninfo.make_conninfo(db.service, password="wrongsecret")
    one = process("--port", "0", DATABASE_URL=wrong)
    until(lambda: one.said("not ready"), "the log to say so")

    assert one.get("/health/ready").status_code == 503
    assert not any("wrongsecret" in str(line) for line in one.lines)


HERE = ["127.0.0.1", "127.9.9.9:80", "::1", "[::1]:8000", "[::1]", "localhost:8000", "localhost"]
ANYWHERE = ["0.0.0.0", "0.0.0.0:8000", "8000", "::", "[::]:8000", "10.0.0.1", "example.org", ""]  # noqa: S104


@pytest.mark.parametrize(
    ("address", "whether"), [*[(each, True) for each in HERE], *[(each, False) for each in ANYWHERE]]
)
def test_it_knows_what_only_this_machine_reaches(address: str, whether: bool) -> None:
    assert is_loopback(address) is whether


def test_where_others_can_connect_it_does_not_start_without_a_key(process: ProcessStart, db: Database) -> None:
    code, said = process("--port", "0", "--published", "0.0.0.0:80", DATABASE_URL=db.service).ended()

    assert code == 1
    assert said.startswith("lockgate: whoever can reach 0.0.0.0:80 could do everything: make a key first")
    assert said.count("\n") == 1


def test_with_a_key_it_starts_anywhere(process: ProcessStart, db: Database) -> None:
    db.query("select lockgate.add_key('aaaaaaaaaaaa', 'web', sha256('secret'), 'read')")
    one = serving(process, db.service, "--published", "0.0.0.0:80")

    assert one.get("/tasks").status_code == 401


def test_told_so_it_starts_anywhere_and_asks_nobody(process: ProcessStart, db: Database) -> None:
    one = process("--port", "0", DATABASE_URL=db.service, LOCKGATE_PUBLISHED="8000", LOCKGATE_OPEN="yes")

    until(lambda: one.get("/tasks").status_code == 200, "the service to be ready")
    assert one.said("open")


def test_while_the_database_is_away_it_starts_and_lets_nobody_in(process: ProcessStart, db: Database) -> None:
    with Away(db):
        one = process("--port", "0", "--published", "8000", DATABASE_URL=db.service)
        assert one.get("/tasks").status_code == 503
    until(lambda: one.get("/tasks").status_code == 401, "the database to be found")
