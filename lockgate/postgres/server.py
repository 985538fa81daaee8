"""An embedded PostgreSQL server: a child process of ours, in a folder of its own."""

import errno
import hashlib
import hmac
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

import psycopg

from lockgate.postgres import binaries as programs
from lockgate.postgres.binaries import NotInstalledError
from lockgate.postgres.data_dir import DataDir, EmbeddedError, start_as
from lockgate.signals import with_parent

__all__ = ["EmbeddedError", "NotInstalledError", "Server", "available", "free_port", "port_obstacle"]

HOST = "127.0.0.1"
SUPERUSER = "lockgate"
START_LIMIT = 60.0  # seconds; long enough to recover from a crash
STOP_LIMIT = 30.0  # seconds
LOG_LIMIT = 10 * 1024 * 1024  # bytes of server.log at a start; longer ones make room for a new one
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
Mode = Literal["fast", "immediate"]

INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums")
SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",  # the queries are short
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def available() -> bool:
    """Whether the programs of an embedded server are installed."""
    try:
        programs.find()
    except NotInstalledError:
        return False
    return True


class Server:
    """A PostgreSQL server on 127.0.0.1 (and a Unix socket), every connection with a password.

    `port`: the last one used on this folder, or a free one, unless given. `settings`: of PostgreSQL, over SETTINGS.
    `binaries`: the folder of another installation's programs. Raises NotInstalledError.
    """

    def __init__(
        self, data: Path, port: int | None = None, settings: Mapping[str, str] = {}, binaries: Path | None = None
    ) -> None:
        self.folder = DataDir(Path(data))
        self.port = port or 0
        self.settings = SETTINGS | dict(settings)
        self.binaries = binaries or programs.find()
        self.socket_folder: Path | None = None
        self._given_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._secret = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the postmaster; 0 when there is none."""
        return self._process.pid if self._process else 0

    @property
    def ended(self) -> bool:
        """Whether it was started and has ended by itself since."""
        return self._process is not None and self._process.poll() is not None

    def password(self, user: str) -> str:
        """Return the password that `user` should have here: each login its own, all of them from one secret."""
        if user == SUPERUSER:
            return self._secret
        return hmac.new(self._secret.encode(), user.encode(), hashlib.sha256).hexdigest()[:32]

    def dsn(self, user: str = SUPERUSER, database: str = "lockgate") -> str:
        """Return the URL with which `user` connects to `database` (`lockgate` is there from the start)."""
        return f"postgresql://{quote(user)}:{self.password(user)}@{HOST}:{self.port}/{quote(database)}"

    def psql(self, user: str, database: str = "lockgate") -> str:
        """Return a shell command that opens psql as `user`; the password waits in a file beside the data."""
        entry = f"{HOST}:{self.port}:{database}:{user}:{self.password(user)}"
        self.folder.write("pgpass", entry)
        where = f"{HOST}:{self.port}/{quote(database)}?passfile={quote(str(self.folder.path))}/pgpass"
        url = f"postgresql://{quote(user)}@{where}"
        return shlex.join([shutil.which("psql") or str(self.binaries / "psql"), url])

    def start(self) -> None:
        """Start the server and wait until it answers. Raises EmbeddedError.

        Call it in a thread that lives as long as the server should: the kernel stops the server when that thread ends.
        """
        try:
            self.folder.take()
            self.binaries = programs.reachable(self.binaries, self.folder.os_user)
            stop_stale_server(self._cluster)
            self._make_cluster()
            if self._given_port and (obstacle := port_obstacle(self._given_port)):
                raise EmbeddedError(obstacle)
            self._launch(self._given_port)
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server: `fast` ends every session and writes all down, `immediate` is a crash."""
        self._end(mode)
        self.folder.release()

    def restart(self, mode: Mode = "fast", settings: Mapping[str, str] = {}) -> None:
        """Stop and start on the same port, with these settings added; the folder stays ours throughout."""
        self._end(mode)
        self.settings |= settings
        try:
            self._launch(self.port)
        except BaseException:
            self.stop("immediate")
            raise

    @property
    def _cluster(self) -> Path:
        return self.folder.path / "cluster"

    def _make_cluster(self) -> None:
        self._secret = self.folder.read("password")
        if not self._secret:
            self._secret = secrets.token_urlsafe(24)
            self.folder.write("password", self._secret)
        if self._cluster.exists():
            return
        draft = self.folder.path / "cluster.new"  # renamed when complete: an initdb cut short leaves nothing half made
        self._run("/bin/rm", "-rf", draft)
        initdb: list[str | Path] = [self.binaries / "initdb", "-D", draft, "-U", SUPERUSER, *INITDB]
        initdb.append(f"--pwfile={self.folder.path / 'password'}")
        if self.settings.get("fsync") == "off":
            initdb.append("--no-sync")
        self._run(*initdb)
        draft.rename(self._cluster)

    def _run(self, *command: str | Path) -> None:
        """Run a program as the server's user. Interrupted, it goes with all it started. Raises EmbeddedError."""
        process = subprocess.Popen(
            command, cwd=self.folder.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True, preexec_fn=with_parent(signal.SIGKILL), **start_as(self.folder.os_user),
        )  # fmt: skip
        with process:
            try:
                said, _ = process.communicate(timeout=START_LIMIT)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode != 0:
            last = "; ".join(said.strip().splitlines()[-5:])
            raise EmbeddedError(f"{Path(command[0]).name} failed in {self.folder.path}: {last}")

    def _launch(self, port: int | None) -> None:
        """Start postgres on this port, or on the last one used, or on a free one, and wait until it answers."""
        end = time.monotonic() + START_LIMIT
        while True:
            self.port = port or self._free_port()
            log_begins = self._spawn()
            if self._answers(end):
                self.folder.write("port", str(self.port))
                return
            self._end("immediate")
            log = self._log(log_begins)
            # The workers of a server that was killed may live a moment longer, and a free port may be lost to another.
            again = "pre-existing shared memory block" in log or "could not bind" in log
            if not again or time.monotonic() > end:
                last = "; ".join(log.splitlines()[-5:]) or f"no answer within {START_LIMIT:.0f} s"
                raise EmbeddedError(f"PostgreSQL did not start: {last}")
            time.sleep(0.2)

    def _free_port(self) -> int:
        """Return the port of last time if it is free, else another."""
        last = self.folder.read("port")
        return int(last) if last.isdigit() and port_obstacle(int(last)) is None else free_port()

    def _spawn(self) -> int:
        """Start postgres; where in the log its words begin."""
        self.socket_folder = self._make_socket_folder()
        settings = self.settings | {
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
        }
        command = [str(self.binaries / "postgres"), "-D", str(self._cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with suppress(FileNotFoundError):
            if (path := self.folder.path / "server.log").stat().st_size > LOG_LIMIT:
                path.rename(path.with_suffix(".log.old"))
        log = self.folder.open("server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            begin = os.fstat(log).st_size
            self._process = subprocess.Popen(
                command, cwd=self.folder.path, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=with_parent(signal.SIGINT), **start_as(self.folder.os_user),
            )  # fmt: skip
        finally:
            os.close(log)
        return begin

    def _make_socket_folder(self) -> Path:
        """Make a short one: the path of a socket is limited to 107 bytes, and data folders may be deep."""
        self._remove_socket_folder(self.folder.read("socket"))
        folder = Path(tempfile.mkdtemp(prefix="lockgate-", dir="/tmp"))
        if self.folder.os_user:
            os.chown(folder, *self.folder.os_user)
        self.folder.write("socket", str(folder))
        return folder

    def _remove_socket_folder(self, path: str) -> None:
        folder = Path(path)
        ours = folder.name.startswith("lockgate-") and folder.parent == Path("/tmp")  # noqa: S108  compared, not used
        if ours and not folder.is_symlink():
            with suppress(OSError):
                for left in folder.glob(".s.PGSQL.*"):
                    left.unlink()
                folder.rmdir()

    def _answers(self, end: float) -> bool:
        """Wait for the server to answer, and see to it that there is a database `lockgate`; False if it ended."""
        while self._process and self._process.poll() is None and time.monotonic() < end:
            try:
                with psycopg.connect(self.dsn(database="postgres"), connect_timeout=5, autocommit=True) as connection:
                    found = connection.execute("select from pg_database where datname = 'lockgate'").fetchone()
                    if found is None:
                        connection.execute("create database lockgate")
                    return True
            except psycopg.OperationalError:
                time.sleep(0.02)
        return False

    def _log(self, begin: int) -> str:
        with os.fdopen(self.folder.open("server.log", os.O_RDONLY), errors="replace") as log:
            log.seek(begin)
            return log.read()

    def _end(self, mode: Mode) -> None:
        if self._process is not None:
            for farewell, limit in ((SIGNALS[mode], STOP_LIMIT), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
                with suppress(ProcessLookupError):
                    self._process.send_signal(farewell)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(limit)
                    break
            self._process = None
        if self.socket_folder is not None:
            self._remove_socket_folder(str(self.socket_folder))
            self.socket_folder = None


def port_obstacle(port: int, host: str = "127.0.0.1") -> str | None:
    """Return why no server can listen there now, in words; None if one can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} of {host} is taken"
            return f"nothing can listen on port {port} of {host}: {error.strerror}"
    return None


def free_port() -> int:
    """Return a free port of 127.0.0.1, and not one of the kernel's ephemeral ports.

    While nobody listens on one of those, a client that keeps trying to connect to it will sooner or later be given
    that very port as its own, and be connected to itself.
    """
    while True:
        port = random.randint(20000, 32000)  # noqa: S311  no secret
        if port_obstacle(port) is None:
            return port


def stop_stale_server(cluster: Path) -> None:
    """Stop the server that still runs on this cluster, if there is one. Raises EmbeddedError if it stays.

    It is about to stop by itself as a rule: the kernel told it so when its parent was killed.
    """
    for farewell, limit in ((signal.SIGINT, STOP_LIMIT), (signal.SIGQUIT, 10.0)):
        pid = stale_server(cluster)
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, farewell)
        end = time.monotonic() + limit
        while stale_server(cluster) == pid and time.monotonic() < end:
            time.sleep(0.02)
    if pid := stale_server(cluster):
        raise EmbeddedError(f"an earlier server on {cluster}, process {pid}, does not stop")


def stale_server(cluster: Path) -> int | None:
    """Return the process that postmaster.pid names, if it really is a server on this cluster."""
    try:
        pid = (cluster / "postmaster.pid").read_text().split("\n", 1)[0].strip()
    except FileNotFoundError:
        return None
    return int(pid) if pid.isdigit() and f"postgres -D {cluster} " in f"{_command(pid)} " else None


def _command(pid: str) -> str:
    """Return the command line of a process; empty when it is gone, or dead and not yet reaped."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            return ""
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", pid]
    return subprocess.run(ps, capture_output=True, text=True, timeout=10, check=False).stdout
