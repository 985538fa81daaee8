"""The folder of an embedded server: the system user that owns it, who holds it, and the small files in it."""

import fcntl
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from lockgate.errors import UserError

LOCK_LIMIT = 1.0  # seconds; a holder that was just killed lets go a moment later
TRY_LIMIT = 30.0  # seconds


class EmbeddedError(UserError):
    """The embedded server cannot be used; the message says why in one line."""


class OsUser(NamedTuple):
    """The system user that the server runs as, by number: PostgreSQL refuses to run as root."""

    uid: int
    gid: int

    @classmethod
    def for_folder(cls, data: Path) -> "OsUser | None":
        """Return the user for a server on this data folder; None = as whoever runs us, since that is not root.

        For root: the owner of the folder if it is somebody else's already, else `postgres`, else `nobody`.
        """
        if os.geteuid() != 0:
            return None
        if data.exists() and data.stat().st_uid != 0:
            return cls(data.stat().st_uid, data.stat().st_gid)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        return cls(65534, 65534)


def start_as(os_user: OsUser | None) -> dict[str, Any]:
    """Return Popen arguments: this user, and none of the PG* variables that would change what a program does."""
    who = {"user": os_user.uid, "group": os_user.gid, "extra_groups": []} if os_user else {}
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    return {**who, "env": env}


class DataDir:
    """Held by one process at a time, between `take` and `release`.

    It belongs to the os_user that the server runs as. Small files in it: `password`, `port`, `socket`, `pgpass`, and
    `lock`, with the process that holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.os_user: OsUser | None = None
        self._lock: int | None = None

    def take(self) -> None:
        """Make the folder if need be, and hold it. Raises EmbeddedError when that cannot be or another holds it."""
        self.os_user = OsUser.for_folder(self.path)
        try:
            self._make()
            self._lock = self.open("lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise EmbeddedError(f"the data folder {self.path} cannot be used: {error.strerror}") from error
        end = time.monotonic() + LOCK_LIMIT
        while not _try_lock(self._lock):
            if time.monotonic() > end:
                holder = f"process {pid}" if (pid := self.read("lock")) else "another Lockgate"
                raise EmbeddedError(f"the data folder {self.path} is in use by {holder}")
            time.sleep(0.02)
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        if not self._can_be_entered():
            who = f"the user of the server (uid {self.os_user.uid})" if self.os_user else "this user"
            raise EmbeddedError(f"the data folder {self.path} cannot be reached by {who}: choose another")

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_held(self) -> bool:
        """Whether some process holds it now."""
        try:
            lock = self.open("lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def open(self, name: str, flags: int) -> int:
        """Open a file of the folder; never through a link, since the folder may be another user's and we root."""
        file = os.open(self.path / name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if self.os_user and flags & os.O_CREAT:
            os.fchown(file, *self.os_user)
        return file

    def read(self, name: str) -> str:
        """Return what a small file says; nothing if there is no such file."""
        try:
            with os.fdopen(self.open(name, os.O_RDONLY)) as file:
                return file.read().strip()
        except FileNotFoundError:
            return ""

    def write(self, name: str, text: str) -> None:
        with os.fdopen(self.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            file.write(text + "\n")

    def _make(self) -> None:
        for folder in reversed([self.path, *self.path.parents]):
            if not folder.exists():
                folder.mkdir()
                if folder == self.path:
                    folder.chmod(0o700)
                elif self.os_user:
                    folder.chmod(0o755)  # whatever the umask: its user must come through, and this one is ours
        names = {path.name for path in self.path.iterdir()}
        if names - {"lock"} and "password" not in names:
            raise EmbeddedError(f"{self.path} is not empty and not a data folder of Lockgate")
        if self.os_user and not names:
            os.chown(self.path, *self.os_user)

    def _can_be_entered(self) -> bool:
        """Try it: asking the modes of the folders above would miss access lists and the like."""
        command = ["/bin/sh", "-c", 'cd -- "$1" && test -w .', "sh", str(self.path)]
        tried = subprocess.run(
            command, cwd="/", capture_output=True, timeout=TRY_LIMIT, check=False, **start_as(self.os_user)
        )
        return tried.returncode == 0


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
