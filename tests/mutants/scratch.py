"""Copies of the repository in which something may be broken, and what pytest finds in one of them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import CHECKOUT

TEST_LIMIT = 60.0
"""Seconds of one test; whatever a mutant makes wait for ever fails then."""

FAREWELL = 30.0
"""Seconds pytest gets to put things away once it was interrupted."""


@dataclass(frozen=True)
class Run:
    """What came of one run of pytest."""

    failed: list[str]
    """Tests that failed, as pytest names them."""

    broken: bool
    """Whether it came to no verdict: something that is no test went wrong, or it took too long."""

    seconds: float
    output: str

    @property
    def green(self) -> bool:
        return not self.failed and not self.broken


def copy_checkout(target: Path) -> None:
    """The files that git tracks, and the new ones it does not ignore, as they are now."""
    git = shutil.which("git") or "git"
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)


def copy(source: Path, target: Path, changed: Sequence[str]) -> None:
    """With what Python compiled there, but for the files that will be changed."""
    shutil.copytree(source, target)
    for name in changed:
        for compiled in (target / name).parent.glob(f"__pycache__/{Path(name).stem}.*"):
            compiled.unlink()


def pytest(checkout: Path, database_url: str, selection: Sequence[str], limit: float, *options: str) -> Run:
    """Runs these tests of that copy on that server; stopped after `limit` seconds."""
    not_for_it = {"REQUIRE_DOCKER", "PYTEST_ADDOPTS"}
    environment = {name: value for name, value in os.environ.items() if name not in not_for_it}
    # Before the checkout that is installed in this environment, for every process that is started below.
    environment |= {"PYTHONPATH": python_path(checkout), "TEST_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short", "-o", f"timeout={TEST_LIMIT}"]
    begin = time.monotonic()
    log = checkout.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-p", "no:cacheprovider", *options, *selection],
            env=environment, cwd=checkout, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        code = None
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL)
    finally:
        end_processes(checkout)
        process.wait()
    said = log.read_text(errors="replace")
    failed = re.findall(r"^FAILED (.+?)(?: - .*)?$", said, re.MULTILINE)
    # 0: all passed; 1: some failed. An ERROR is something around a test, and no verdict.
    verdict = code == 0 or (code == 1 and bool(failed))
    return Run(failed, not verdict, time.monotonic() - begin, said)


def python_path(checkout: Path) -> str:
    """Where the packages of a checkout are."""
    return os.pathsep.join(str(checkout / folder) for folder in (".", "runner", "service"))


def end_processes(checkout: Path) -> None:
    """Ends whatever a run has left: processes whose environment names its copy, which nobody else's does."""
    mark = f"PYTHONPATH={python_path(checkout)}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
