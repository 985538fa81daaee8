"""The machine, programs and settings of a measurement, for every report."""

import os
import platform
import statistics
import subprocess
import tempfile
import time
import timeit
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers", "max_wal_size", "max_connections",
    "autovacuum",
)  # fmt: skip
PACKAGES = ("psycopg", "litestar", "uvicorn", "msgspec")


def machine(folder: Path) -> list[str]:
    """Returns machine, load, programs, disk: a line each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system, load = f"{platform.system()} {platform.release()}", os.getloadavg()[0]
    programs = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"Machine: {os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB, {system}, load {load:.1f} at the start",
        f"Programs: Lockgate {version('lockgate')}{_commit()}, {programs}",
        f"Python {platform.python_version()}; a million additions in a loop take {1000 * _loop_seconds():.0f} ms",
        f"Disk: {filesystem(folder)}; fdatasync of 8 KiB takes {1000 * _sync_seconds(folder):.2f} ms (median)",
    ]


def server(owner: "psycopg.Connection[Any]") -> str:
    """Returns the server's version, and its settings of durability and size."""
    rows: dict[str, str] = dict(
        owner.execute(
            "select name, current_setting(name) from pg_settings where name = any (%s)", (list(SETTINGS),)
        ).fetchall()
    )
    settings = ", ".join(f"{name} {rows[name]}" for name in SETTINGS)
    return f"Server: PostgreSQL {owner.info.server_version // 10000}.{owner.info.server_version % 100}; {settings}"


def filesystem(folder: Path) -> str:
    """Returns the type of the folder's file system."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(len(mount[1]), mount[2]) for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(above)[1] if above else "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whichever git there is
        cwd=ROOT, capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    return f" ({told.stdout.strip()})" if told.returncode == 0 else ""


def _loop_seconds() -> float:
    """Shows whether the interpreter was compiled with profile-guided optimization, as those of distributions are."""
    loop = "for number in range(1_000_000): total += number"
    return min(timeit.repeat(loop, "total = 0", number=1, repeat=3))


def _sync_seconds(folder: Path) -> float:
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(100):
            os.pwrite(file.fileno(), b"\0" * 8192, 0)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times)
