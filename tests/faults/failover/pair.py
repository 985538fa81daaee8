"""A primary and its standby: two real servers on two ports, whose roles change when the primary dies."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo

from lockgate.postgres.data_dir import start_as
from lockgate.postgres.server import HOST, SUPERUSER, Server, free_port
from tests.contract import until
from tests.runner.process import children, exists

SETTINGS = {
    "wal_level": "replica",
    "max_wal_senders": "5",
    "dynamic_shared_memory_type": "mmap",  # files among the data, which go with it when a server is killed
}
STANDBY = "standby"
"""How a standby calls itself to its primary."""
LIMIT = 60.0  # seconds


class Pair:
    """Streaming replication from `primary` to `standby`, synchronous unless told otherwise.

    A primary goes in one of three ways before its standby is promoted, and never comes back: what starts in its place
    is a new standby. `settings`: of PostgreSQL, for both servers.
    """

    def __init__(self, folder: Path, synchronous: bool = True, settings: Mapping[str, str] = {}) -> None:
        self.synchronous = synchronous
        self._settings = SETTINGS | dict(settings)
        self._servers = [Server(folder / name, free_port(), self._settings) for name in ("a", "b")]
        self.primary, self.standby = self._servers

    def __enter__(self) -> Self:
        try:
            self.primary.start()
            self.add_standby()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        for server in self._servers:
            end(server)

    def dsn(self, user: str = SUPERUSER) -> str:
        """The URL that leads to whichever of the two is the primary. It never changes."""
        hosts = ",".join(f"{HOST}:{server.port}" for server in self._servers)
        login = f"{quote(user)}:{quote(self.password(user))}"
        return f"postgresql://{login}@{hosts}/lockgate?target_session_attrs=read-write"

    def password(self, user: str) -> str:
        return self.primary.password(user)

    def owner(self) -> "psycopg.Connection[Any]":
        """A session of the administrator on the primary. Raises psycopg.Error."""
        return psycopg.connect(self.primary.dsn(), autocommit=True, connect_timeout=20)

    # -- replication --------------------------------------------------------------------------------------------------

    def add_standby(self) -> None:
        """Makes a standby out of a copy of the primary, in place of what was there, and waits until it follows."""
        folder = self.standby.folder
        end(self.standby)
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.take()
        try:
            folder.write("password", self.primary.password(SUPERUSER))
            source = make_conninfo(self.primary.dsn(database="postgres"), application_name=STANDBY)
            subprocess.run(
                [self.primary.binaries / "pg_basebackup", "-d", source, "-D", cluster(self.standby), "-R",
                 "--checkpoint=fast", "--no-sync"],
                cwd=folder.path, check=True, capture_output=True, timeout=LIMIT, **start_as(folder.os_user),
            )  # fmt: skip
        finally:
            folder.release()
        # Promoted, it would wait for a standby that it was itself.
        settings = cluster(self.standby) / "postgresql.auto.conf"
        lines = [line for line in settings.read_text().splitlines() if not line.startswith("synchronous_standby_names")]
        settings.write_text("\n".join([*lines, ""]))
        self.start_standby()
        if self.synchronous:
            with self.owner() as owner:
                owner.execute(f"alter system set synchronous_standby_names = '{STANDBY}'")
                owner.execute("select pg_reload_conf()")
        self.wait_until_it_follows()

    def wait_until_it_follows(self) -> None:
        state = ("streaming", "sync" if self.synchronous else "async")
        query = "select state, sync_state from pg_stat_replication where application_name = %s"
        with self.owner() as owner:
            until(lambda: owner.execute(query, (STANDBY,)).fetchone() == state, "the standby to follow", LIMIT)

    def waiting(self) -> int:
        """How many sessions of the primary wait for the standby to have their commits."""
        with self.owner() as owner:
            row = owner.execute("select count(*) from pg_stat_activity where wait_event = 'SyncRep'").fetchone()
        return row[0] if row else 0

    # -- what happens to them -----------------------------------------------------------------------------------------

    def kill_primary(self) -> None:
        """Its machine is gone, and its network says so."""
        kill(self.primary)

    def silence_primary(self) -> None:
        """Its machine is gone without a word: connections to it stay, and new ones are made, but nothing answers."""
        for process in freeze(self.primary):
            os.kill(process, signal.SIGSTOP)

    def stop_primary(self) -> None:
        """In order: its sessions end, and the standby gets the last it has to say."""
        self.primary.stop("fast")

    def promote(self) -> None:
        """The standby becomes the primary. Returns when it takes writes."""
        with psycopg.connect(self.standby.dsn(), autocommit=True) as connection:
            connection.execute("select pg_promote(false)")
            recovering = "select pg_is_in_recovery()"
            until(lambda: connection.execute(recovering).fetchone() == (False,), "the promotion", LIMIT, 0.002)
        self.primary, self.standby = self.standby, self.primary

    def kill_standby(self) -> None:
        kill(self.standby)

    def start_standby(self) -> None:
        """The same one again, with what it had."""
        end(self.standby)
        self.standby.start()


def cluster(server: Server) -> Path:
    return server.folder.path / "cluster"


def end(server: Server) -> None:
    """Leaves nothing of it but its folder, be it running, frozen, dead, or never started."""
    if server.pid and not server.ended:
        kill(server)
    server.stop("immediate")  # of a dead one the folder is let go


def freeze(server: Server) -> list[int]:
    """Stops the postmaster, which would else recover when its children die; all its processes, itself the last."""
    os.kill(server.pid, signal.SIGSTOP)
    return [*children(server.pid), server.pid]


def kill(server: Server) -> None:
    """SIGKILL for every process of it, at one moment."""
    segment = (cluster(server) / "postmaster.pid").read_text().splitlines()[6].split()[1]
    processes = freeze(server)
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    until(lambda: server.ended and not any(map(exists, processes)), "the server to be dead")
    # The memory it shared is named by its data, and would outlive that.
    subprocess.run(["ipcrm", "-m", segment], check=True)  # noqa: S607
