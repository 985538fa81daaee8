"""A small disk for the server's data, that can be filled to the last byte: a tmpfs in a mount namespace of this run.

Nobody else sees it, and the kernel removes it with the last process of the run, however the run ends.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTES = 300
"""Its size. Postgres takes about 100 of it, in a long run some more."""

CLONE_NEWNS = 0x00020000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

CHUNK = b"\0" * 1024 * 1024


class Disk:
    """``path`` is the folder it is mounted on; ``refused`` why there is none, else empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused = "only root may mount one" if os.geteuid() != 0 else ""
        if self.refused:
            return
        path.mkdir()
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            _check(libc.unshare(CLONE_NEWNS), "a mount namespace")
            _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "a private one")
            size = f"size={MEGABYTES}m,mode=0700".encode()
            _check(libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, size), "mounting a tmpfs")
        except OSError as error:
            self.refused = f"{error.filename} is refused: {error.strerror}"

    @property
    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    @contextmanager
    def full(self) -> Iterator["Filler"]:
        """Full inside the context, as far as it is topped up."""
        filler = Filler(self.path / "filler")
        try:
            filler.top_up()
            yield filler
        finally:
            filler.close()

    def close(self) -> None:
        if not self.refused:
            ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(self.path), MNT_DETACH)


class Filler:
    """The file that takes all the room there is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)

    def top_up(self) -> None:
        """Takes what has become free since."""
        for size in (len(CHUNK), 4096):
            try:
                while os.write(self._file, CHUNK[:size]):
                    pass
            except OSError:
                continue

    def close(self) -> None:
        os.close(self._file)
        self._path.unlink()


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
