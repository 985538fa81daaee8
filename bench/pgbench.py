"""pgbench with our own functions: the rate of Postgres without our programs."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bench.testbed import Database, Testbed

OPTIONS = ("-n", "-D", "started=0", "-M", "prepared", "-P", "1")

# Finishing one task and claiming the next, as a runner does; `sleep` stands for the handler.
FINISH_AND_CLAIM = r"""
\if :started
\else
select lockgate.take_slot(1) as slot \gset
select task, lease from lockgate.claim(1, :slot, 'bench', 1) \gset
\set started 1
\endif
{sleep}
select task, lease from lockgate.finish_and_claim(:task, :lease, 'bench', 0.001, null, 1, :slot, 1) \gset
"""


@dataclass
class Run:
    """The result of pgbench: transactions a second, of the whole run and of each second."""

    rate: float
    each_second: list[float]


def pgbench(
    testbed: Testbed, database: Database, clients: int, *, seconds: int = 0, transactions: int = 0, sleep_ms: int = 0
) -> Run:
    """Finishes and claims for some seconds, or some transactions in each client; deletes its last running tasks."""
    sleep = rf"\sleep {sleep_ms} ms" if sleep_ms else ""
    length = ["-T", str(seconds)] if seconds else ["-t", str(transactions)]
    try:
        return run(testbed, database, FINISH_AND_CLAIM.format(sleep=sleep), ["-c", str(clients), *length])
    finally:
        database.delete_running()


def run(testbed: Testbed, database: Database, script: str, arguments: Sequence[str]) -> Run:
    """Runs a script. Raises RuntimeError with pgbench's output if a client of it gave up."""
    file = testbed.folder / "script.sql"
    file.write_text(script)
    done = subprocess.run(
        [str(testbed.server.binaries / "pgbench"), *OPTIONS, "-f", str(file), *arguments, database.urls["runner"]],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not found or "aborted" in done.stderr:
        raise RuntimeError(f"pgbench: {done.stderr[-2000:]}")
    each = re.findall(r"^progress: [0-9.]+ s, ([0-9.]+) tps", done.stderr, re.MULTILINE)
    return Run(float(found[1]), [float(rate) for rate in each])
