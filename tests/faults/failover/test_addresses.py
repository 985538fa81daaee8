"""One URL with both servers in it, of which the first does not answer."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import quote

import httpx
import pytest

from lockgate.postgres.server import SUPERUSER
from lockgate.schema import create_logins
from tests.contract import until
from tests.faults.failover.pair import LIMIT, Pair
from tests.runner.process import CHECKOUT, RunnerProcess
from tests.service.conftest import Process

Url = Callable[[str], str]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are made and nothing is ever said, as with a server that is frozen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def url(pair: Pair, silent: int) -> Url:
    """Of a login."""
    create_logins(pair.primary.dsn(), pair.primary.password)

    def of(user: str) -> str:
        hosts = f"127.0.0.1:{silent},127.0.0.1:{pair.primary.port}"
        login = f"{user}:{quote(pair.primary.password(user))}"
        return f"postgresql://{login}@{hosts}/lockgate?target_session_attrs=read-write"

    return of


def test_service_runner_and_commands_go_on_to_the_second(url: Url) -> None:
    runner = RunnerProcess(url("lockgate_app_runner"), module="lockgate run")
    service = Process("--port", "0", DATABASE_URL=url("lockgate_app_service"))
    try:
        until(lambda: httpx.post(f"{service.url}/task", timeout=20).status_code == 202, "a task to be taken", LIMIT)
        runner.says("taken", LIMIT)
        asked = subprocess.run(
            [sys.executable, "-P", "-m", "lockgate", "list", "--json"],
            env=os.environ | {"DATABASE_URL": f"{url(SUPERUSER)}&connect_timeout=10"},
            cwd=CHECKOUT, capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert (asked.returncode, asked.stderr) == (0, "")
        assert '"kind":"sleep"' in asked.stdout.replace(" ", "")
    finally:
        service.close()
        runner.close()
