"""What recovery is measured on: a server of its own, supervised runners, and a witness outside."""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg

from lockgate.local.witness import Execution, Witness
from lockgate.postgres.server import Server
from lockgate.schema import apply, create_logins
from tests.contract import until
from tests.faults.chaos.record import AUDIT
from tests.faults.recovery.figures import Figures
from tests.faults.recovery.supervised import Supervised

GRACE = 5.0
"""Seconds, the default: all that is measured here is measured with the defaults."""


class Ground:
    """A context. `settings`: of the server."""

    def __init__(self, slots: int, settings: Mapping[str, str] = {}) -> None:
        self.slots = slots
        self.witness = Witness()
        self.supervised: list[Supervised] = []
        self._folder = Path(tempfile.mkdtemp(prefix="lockgate-recovery-", dir="/tmp"))
        self._folder.chmod(0o755)  # as root, the server runs as somebody who has to get there
        self.server = Server(self._folder / "data", settings=settings)

    def __enter__(self) -> Self:
        self.witness.__enter__()
        self.server.start()
        apply(self.server.dsn())
        self._login = create_logins(self.server.dsn(), self.server.password)["runner"]
        with self.owner() as owner:
            owner.execute(AUDIT)
            owner.execute("select lockgate.set_slots('default', %s)", (self.slots,))
        return self

    def __exit__(self, *_: object) -> None:
        for one in list(self.supervised):
            self.close(one)
        self.server.stop("immediate")
        self.witness.__exit__(None, None, None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def owner(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.server.dsn(), autocommit=True, connect_timeout=2)

    def start(self, number: int, **settings: str) -> list[Supervised]:
        """Starts so many more `lockgate run`, and waits until each has a session."""
        url = self.server.dsn(self._login)
        given = {"module": "lockgate run", "handlers": "tests.faults.recovery.handlers"} | settings
        new = [Supervised(url, self.witness.address, **given) for _ in range(number)]  # type: ignore[arg-type]
        self.supervised += new
        for one in new:
            one.says("connected", limit=60)
        return new

    def close(self, one: Supervised) -> None:
        """Ends one, with all below it."""
        one.close()
        self.supervised.remove(one)

    def submit(self, kind: str, payload: Mapping[str, object] = {}, times: int = 1) -> list[int]:
        with self.owner() as owner:
            rows = owner.execute(
                "select lockgate.submit('default', %s, %s::jsonb) from generate_series(1, %s)",
                (kind, json.dumps(payload), times),
            )
            return [row[0] for row in rows]

    def executing(self, one: Supervised) -> int:
        """Waits until its runner executes something, by the table and the witness; what it is."""
        query = (
            "select t.id from lockgate.task t join lockgate.runner r on r.session = t.session"
            " where t.status = 'running' and r.pid = %s"
        )
        with self.owner() as owner:

            def found() -> int | None:
                row = owner.execute(query, (one.runner(),)).fetchone()
                return row[0] if row and any(e.task == row[0] for e in self.witness.current()) else None

            return until(found, "a runner to execute")

    def begins(self, task: int, after: float, limit: float) -> float:
        """Waits until that task begins again; when that was, on the monotonic clock."""

        def begun() -> Execution | None:
            return next((e for e in self.witness.executions if e.task == task and e.begin > after), None)

        return until(begun, f"task {task} to begin again", limit, 0.005).begin

    def ends(self, tasks: list[int], limit: float) -> None:
        """Waits until all of these have succeeded."""
        query = "select count(*) from lockgate.task where status = 'succeeded' and id = any (%s)"
        with self.owner() as owner:
            until(lambda: owner.execute(query, (tasks,)).fetchone() == (len(tasks),), "all to succeed", limit, 0.1)

    def cancel_rest(self) -> None:
        """Takes back what has not begun, stops what would take ever so long, and waits until nothing runs any more."""
        with self.owner() as owner:
            owner.execute(CANCEL)
            until(lambda: owner.execute(UNENDED).fetchone() == (0,), "the last to end", 60, 0.1)

    def count(self, figures: Figures, name: str = "", again: int | None = None) -> None:
        """What the promise says, of all tasks so far. `again`: how many may have executed more than once, if any."""
        with self.owner() as owner:
            tasks, lost, failed, stopped = owner.execute(COUNTS).fetchone() or (0, 0, 0, 0)
            (twice,) = owner.execute(TWICE).fetchone() or (0,)
        most = max(self.witness.most.values())
        leases = [execution.lease for execution in self.witness.executions]
        figures.counts(name, tasks=tasks, lost=lost, failed=failed, twice=twice, again=stopped, most=most)
        figures.hold(lost == 0, f"{name} {lost} tasks without their result")
        figures.hold(failed == 0, f"{name} {failed} tasks failed")
        figures.hold(twice == 0, f"{name} {twice} tasks ended twice")
        figures.hold(again is None or stopped <= again, f"{name} {stopped} tasks were stopped")
        figures.hold(len(leases) == len(set(leases)), f"{name} one claim executed twice")
        figures.hold(most <= self.slots, f"{name} {most} executed at once, on {self.slots} slots")


CANCEL = """
select lockgate.cancel(id, force => true) from lockgate.task
where status in ('scheduled', 'queued') or (status = 'running' and kind = 'once')
"""

UNENDED = "select count(*) from lockgate.task where status in ('scheduled', 'queued', 'running')"

# `brief` returns its number.
COUNTS = """
select count(*),
  count(*) filter (where status = 'succeeded' and kind = 'brief' and result is distinct from to_jsonb(id)
                   or status in ('scheduled', 'queued', 'running')),
  count(*) filter (where status = 'failed'),
  count(*) filter (where attempt > 1)
from lockgate.task
"""

TWICE = """
select count(*) from (
  select from lockgate.audit
  where after in ('succeeded', 'failed', 'cancelled') and before not in ('succeeded', 'failed', 'cancelled')
  group by task having count(*) > 1) as ended_twice
"""


def pause(seconds: float) -> None:
    """The length of something, not a wait for anything."""
    time.sleep(max(0.0, seconds))
