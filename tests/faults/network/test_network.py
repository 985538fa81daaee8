"""The network that the other tests break: it carries, loses, delays and refuses, and nothing of it stays behind."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import until
from tests.faults.network.conftest import unavailable
from tests.faults.network.network import Host, Network, NoNetwork, possible, run
from tests.runner.process import CHECKOUT, exists

CONNECT = """
import json, socket, sys, time
start = time.monotonic()
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
    how = "connected"
except OSError as error:
    how = type(error).__name__
print(json.dumps([how, time.monotonic() - start]))
"""

OWNER = """
import time
from tests.faults.network.network import Network
with Network() as network:
    host = network.host()
    import subprocess
    sleeper = subprocess.Popen([*host.command, "sleep", "600"])
    print(host.name, sleeper.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    try:
        with Network() as it:
            yield it
    except NoNetwork as why:
        unavailable(why)


@pytest.fixture
def host(network: Network) -> Iterator[Host]:
    it = network.host()
    yield it
    it.remove()


@pytest.fixture
def listener(network: Network) -> Iterator[socket.socket]:
    with socket.create_server((network.server, 0)) as it:
        yield it


def connect(host: Host, listener: socket.socket, limit: float = 30) -> tuple[str, float]:
    """How a connection from that host goes, and in how many seconds."""
    address, port = listener.getsockname()
    how, seconds = json.loads(run(*host.command, sys.executable, "-c", CONNECT, address, str(port), str(limit)))
    return how, seconds


def test_a_wire_carries_and_can_be_cut_and_healed(host: Host, listener: socket.socket) -> None:
    assert connect(host, listener)[0] == "connected"
    for way in (host.wire.to_server, host.wire.to_runner):
        way.open = False
        assert connect(host, listener, 1.5)[0] == "TimeoutError"
        host.wire.heal()
        assert connect(host, listener)[0] == "connected"


def test_a_wire_can_refuse(host: Host, listener: socket.socket) -> None:
    host.wire.refuse()
    assert connect(host, listener)[0] == "ConnectionRefusedError"


def test_a_wire_can_be_slow(host: Host, listener: socket.socket) -> None:
    host.wire.to_server.delay = host.wire.to_runner.delay = 0.2
    how, seconds = connect(host, listener)
    assert how == "connected"
    assert seconds >= 0.4


def test_what_a_killed_run_has_left_is_removed_by_the_next(network: Network) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        assert owner.stdout
        name, sleeper = owner.stdout.readline().split()
        owner.kill()
    assert exists(int(sleeper))
    assert Path("/run/netns", name).exists()
    with Network():
        assert not Path("/run/netns", name).exists()
        until(lambda: not exists(int(sleeper)), "the end of what ran there")
        until(lambda: not list(Path("/sys/class/net").glob(f"lg{owner.pid}*")), "the end of its devices")


def test_nothing_is_left_after_a_failure(network: Network) -> None:
    def fail() -> None:
        with Network() as own:
            host = own.host()
            started.append(sleeper := subprocess.Popen([*host.command, "sleep", "600"]))
            until(lambda: str(sleeper.pid) in run("ip", "netns", "pids", host.name).split(), "its arrival")
            raise RuntimeError(host.name)

    started: list[subprocess.Popen[bytes]] = []
    with pytest.raises(RuntimeError) as failure:
        fail()
    assert not Path("/run/netns", str(failure.value)).exists()
    assert started[0].wait(10) == -signal.SIGKILL


def test_where_there_is_no_command_ip_the_reason_is_said(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoNetwork, match="no command ip"):
        possible()


@pytest.mark.parametrize("required", [False, True], ids=["skipped", "failed where it is required"])
def test_without_a_network_the_tests_are(network: Network, required: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_NETNS", str(int(required)))
    with pytest.raises(pytest.fail.Exception if required else pytest.skip.Exception, match="only root"):
        unavailable(NoNetwork("only root may make network namespaces"))
