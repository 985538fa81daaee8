"""An embedded PostgreSQL server: a child process of ours, in a folder of its own.

Layout of a data folder: `cluster/` (PostgreSQL's), `password` (of the superuser `lockgate`), `port` and `socket` (the
last ones used), `server.log`, and `lock` (held while a Server is up).
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

import psycopg

from lockgate import binaries as programs
from lockgate import ports
from lockgate.account import Account, start_as
from lockgate.binaries import EmbeddedError, NotInstalledError
from lockgate.leash import leash

__all__ = ["EmbeddedError", "NotInstalledError", "Server", "available"]

HOST = "127.0.0.1"
SUPERUSER = "lockgate"
START_LIMIT = 60.0  # seconds; long enough to recover from a crash
STOP_LIMIT = 30.0  # seconds
LOCK_LIMIT = 1.0  # seconds; a holder that was just killed lets go a moment later
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
Mode = Literal["fast", "immediate"]

SETTINGS = {
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
        self.data = Path(data).absolute()
        self.port = port or 0
        self.settings = SETTINGS | dict(settings)
        self.binaries = binaries or programs.find()
        self.socket_folder: Path | None = None
        self._given_port = port
        self._account: Account | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._secret = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
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
        self._write("pgpass", entry)
        url = f"postgresql://{quote(user)}@{HOST}:{self.port}/{quote(database)}?passfile={quote(str(self.data))}/pgpass"
        return shlex.join([shutil.which("psql") or str(self.binaries / "psql"), url])

    def start(self) -> None:
        """Start the server and wait until it answers. Raises EmbeddedError.

        Call it in a thread that lives as long as the server should: the kernel stops the server when that thread ends.
        """
        try:
            self._account = Account.for_folder(self.data)
            self._take_folder()
            self.binaries = programs.reachable(self.binaries, self._account)
            self._stop_leftover()
            self._make_cluster()
            self._launch()
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server: `fast` ends every session and writes all down, `immediate` is a crash."""
        self._end(mode)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def restart(self, mode: Mode = "fast", settings: Mapping[str, str] = {}) -> None:
        """Stop and start on the same port, with these settings added; the folder stays ours throughout."""
        self._end(mode)
        self.settings |= settings
        try:
            self._launch()
        except BaseException:
            self.stop("immediate")
            raise

    # The folder ----------------------------------------------------------------------------------------------------

    def _take_folder(self) -> None:
        made = not self.data.exists()
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = {path.name for path in self.data.iterdir()}
            if names - {"lock"} and "password" not in names:
                raise EmbeddedError(f"{self.data} is not empty and not a data folder of Lockgate")
            if self._account and (made or not names):
                os.chown(self.data, *self._account)
            self._lock = self._open("lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise EmbeddedError(f"the data folder {self.data} cannot be used: {error.strerror}") from error
        end = time.monotonic() + LOCK_LIMIT
        while not _try_lock(self._lock):
            if time.monotonic() > end:
                holder = f"process {pid}" if (pid := self._read("lock")) else "another Lockgate"
                raise EmbeddedError(f"the data folder {self.data} is in use by {holder}")
            time.sleep(0.02)
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        entering = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$1" && test -w .', "sh", self.data],
            cwd="/", capture_output=True, timeout=STOP_LIMIT, check=False, **start_as(self._account),
        )  # fmt: skip
        if entering.returncode != 0:
            who = f"the user of the server (uid {self._account.uid})" if self._account else "this user"
            raise EmbeddedError(f"the data folder {self.data} cannot be reached by {who}: choose another")

    def _open(self, name: str, flags: int) -> int:
        """Open a file of the folder; never through a link, since the folder may be another user's and we root."""
        file = os.open(self.data / name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if self._account and flags & os.O_CREAT:
            os.fchown(file, *self._account)
        return file

    def _read(self, name: str) -> str:
        try:
            with os.fdopen(self._open(name, os.O_RDONLY)) as file:
                return file.read().strip()
        except FileNotFoundError:
            return ""

    def _write(self, name: str, text: str) -> None:
        with os.fdopen(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            file.write(text + "\n")

    def _make_cluster(self) -> None:
        self._secret = self._read("password")
        if not self._secret:
            self._secret = secrets.token_urlsafe(24)
            self._write("password", self._secret)
        cluster = self.data / "cluster"
        if cluster.exists():
            return
        draft = self.data / "cluster.new"  # renamed when complete: an initdb cut short leaves nothing half made
        command = [
            str(self.binaries / "initdb"), "-D", str(draft), "-U", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale=C", "--data-checksums", f"--pwfile={self.data / 'password'}",
        ]  # fmt: skip
        if self.settings.get("fsync") == "off":
            command.append("--no-sync")
        subprocess.run(
            ["/bin/rm", "-rf", draft], cwd=self.data, timeout=STOP_LIMIT, check=True, **start_as(self._account)
        )
        made = subprocess.run(
            command, cwd=self.data, capture_output=True, text=True, timeout=START_LIMIT, check=False,
            **start_as(self._account),
        )  # fmt: skip
        if made.returncode != 0:
            raise EmbeddedError(f"initdb failed in {self.data}: {made.stderr.strip() or made.stdout.strip()}")
        draft.rename(cluster)

    # The process ---------------------------------------------------------------------------------------------------

    def _stop_leftover(self) -> None:
        """Stop a server that outlived the process that started it; its signal may be on the way already."""
        for farewell, limit in ((signal.SIGINT, STOP_LIMIT), (signal.SIGQUIT, 10.0)):
            pid = self._leftover()
            if pid is None:
                return
            with suppress(ProcessLookupError):
                os.kill(pid, farewell)
            end = time.monotonic() + limit
            while self._leftover() == pid and time.monotonic() < end:
                time.sleep(0.02)
        if pid := self._leftover():
            raise EmbeddedError(f"an earlier server on {self.data}, process {pid}, does not stop")

    def _leftover(self) -> int | None:
        lines = self._read("cluster/postmaster.pid").splitlines()
        if not lines or not lines[0].isdigit():
            return None
        ours = f"postgres -D {self.data / 'cluster'} "
        return int(lines[0]) if ours in _command(lines[0]) + " " else None

    def _launch(self) -> None:
        end = time.monotonic() + START_LIMIT
        while True:
            self.port = self._given_port or self._free_port()
            if not ports.is_free(self.port):
                raise EmbeddedError(f"port {self.port} of {HOST} is taken")
            log_begins = self._spawn()
            if self._answers(end):
                self._write("port", str(self.port))
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
        with suppress(ValueError):
            if ports.is_free(port := int(self._read("port"))):
                return port
        return ports.a_free_one()

    def _spawn(self) -> int:
        """Start postgres; where in the log its words begin."""
        self.socket_folder = self._make_socket_folder()
        settings = self.settings | {
            "listen_addresses": HOST, "port": str(self.port), "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
        }  # fmt: skip
        command = [str(self.binaries / "postgres"), "-D", str(self.data / "cluster")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = self._open("server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            begin = os.fstat(log).st_size
            self._process = subprocess.Popen(
                command, cwd=self.data, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=leash(signal.SIGINT), **start_as(self._account),
            )  # fmt: skip
        finally:
            os.close(log)
        return begin

    def _make_socket_folder(self) -> Path:
        """Make a short one: the path of a socket is limited to 107 bytes, and data folders may be deep."""
        self._remove_socket_folder(self._read("socket"))
        folder = Path(tempfile.mkdtemp(prefix="lockgate-", dir="/tmp"))
        if self._account:
            os.chown(folder, *self._account)
        self._write("socket", str(folder))
        return folder

    def _remove_socket_folder(self, path: str) -> None:
        folder = Path(path)
        if folder.name.startswith("lockgate-") and folder.parent == Path("/tmp"):  # noqa: S108
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
        with os.fdopen(self._open("server.log", os.O_RDONLY), errors="replace") as log:
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


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _command(pid: str) -> str:
    """Return the command line of a process; empty when it is gone, or dead and not yet reaped."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            return ""
    ps = subprocess.run(
        ["/bin/ps", "-ww", "-o", "command=", "-p", pid], capture_output=True, text=True, timeout=10, check=False
    )
    return ps.stdout
