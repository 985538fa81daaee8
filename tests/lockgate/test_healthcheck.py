"""What a container engine is told: a real service and a real runner, well, unwell and frozen."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from lockgate_service.amqp.commands import write

from tests.contract import until
from tests.database import Database
from tests.lockgate.up import lockgate
from tests.runner.process import RunnerProcess
from tests.service.conftest import running, until_ready


def of_service(port: int | None) -> tuple[int, str]:
    done = lockgate("healthcheck", "serve", LOCKGATE_PORT=str(port))
    return done.returncode, done.stderr


def of_runner(url: str, **settings: str) -> tuple[int, str]:
    done = lockgate("healthcheck", "run", DATABASE_URL=url, **settings)
    return done.returncode, done.stderr


@pytest.fixture
def runner(db: Database) -> Iterator[RunnerProcess]:
    process = RunnerProcess(db.runner, name=f"{socket.gethostname()}-{db.name}")
    process.says("slot taken")
    yield process
    process.signal(signal.SIGCONT)
    process.close()


def test_a_service_is_well_when_it_can_take_tasks(db: Database) -> None:
    with running(db.service) as client:
        until_ready(client)
        until(lambda: of_service(client.base_url.port) == (0, ""), "it to be well")


def test_a_service_without_its_database_is_unwell(db: Database) -> None:
    with running(db.service.replace(f"dbname={db.name}", "dbname=nowhere")) as client:
        code, why = of_service(client.base_url.port)
    assert code == 1
    assert why.startswith("lockgate: the service is not ready: ")
    assert why.count("\n") == 1


def test_a_service_that_is_not_there_is_unwell() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    code, why = of_service(port)
    assert code == 1
    assert why.startswith("lockgate: the service does not answer: ")


def test_a_runner_is_well_while_its_session_speaks(db: Database, runner: RunnerProcess) -> None:
    assert of_runner(db.runner) == (0, "")


def test_a_frozen_runner_is_unwell(db: Database, runner: RunnerProcess) -> None:
    runner.signal(signal.SIGSTOP)
    code, why = until(lambda: (said := of_runner(db.runner, LOCKGATE_POLL="0.05")) != (0, "") and said)
    assert code == 1
    assert why.startswith("lockgate: the runner has been silent for ")


def test_a_host_without_a_runner_is_unwell(db: Database) -> None:
    assert of_runner(db.runner) == (1, "lockgate: no runner of this host has a session\n")


def test_a_runner_whose_database_cannot_be_reached_is_unwell() -> None:
    code, why = of_runner("postgresql://nobody@127.0.0.1:1/none")
    assert code == 1
    assert why.startswith("lockgate: the database cannot be reached: ")


@pytest.mark.parametrize("program", ["intake", "publish"])
def test_a_program_that_writes_a_status_file_is_well_while_that_says_so(program: str, tmp_path: Path) -> None:
    file = tmp_path / "status.json"

    def asked() -> tuple[int, str]:
        done = lockgate("healthcheck", program, LOCKGATE_STATUS_FILE=str(file))
        return done.returncode, done.stderr

    assert asked()[0] == 1
    write(file, {"works": True})
    assert asked() == (0, "")
    write(file, {"works": False})
    assert "waits for the broker or the database" in asked()[1]
    file.write_text('{"works": true, "time": 0}')
    assert "its last word is" in asked()[1]
