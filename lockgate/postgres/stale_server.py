"""A server that outlived the process that started it."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from lockgate.postgres.binaries import EmbeddedError

SIGNALS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))  # and the seconds each gets to work


def stop_leftover(cluster: Path) -> None:
    """Stop the server that still runs on this cluster, if there is one. Raises EmbeddedError if it stays.

    It is about to stop by itself as a rule: the kernel told it so when its parent was killed.
    """
    for farewell, limit in SIGNALS:
        pid = _leftover(cluster)
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, farewell)
        end = time.monotonic() + limit
        while _leftover(cluster) == pid and time.monotonic() < end:
            time.sleep(0.02)
    if pid := _leftover(cluster):
        raise EmbeddedError(f"an earlier server on {cluster}, process {pid}, does not stop")


def _leftover(cluster: Path) -> int | None:
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
