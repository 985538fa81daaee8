"""The wire is cut at the sight of one packet, while a runner works through short tasks as fast as it can.

Each task's payload is in the packet that brings it to the runner, and, since the handler returns it, in the packet that
takes its result to the server. So a mark in a payload says where to cut: what is lost is that very request or answer.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from lockgate.witness import Execution
from tests.contract import Task, until
from tests.faults.network.scene import LIMIT, Scene

SLOTS = 2
AROUND = 100
"""Tasks before the marked one, and as many after it."""

BRIEF = 2.5
"""Seconds after which the runner has given its session up, and the server too, and no deadline is over."""

WHAT = ("a result is lost", "a claimed task is lost")


class InFlight:
    """One queue, worked off by one runner on its own host until the wire is cut."""

    def __init__(self, scene: Scene, what: str) -> None:
        self.queue = what.replace(" ", "-")
        self.brief_tasks: list[int] = []
        """Submitted before a cut of BRIEF seconds; all but the marked one are alike."""
        self.long_tasks: list[int] = []
        """Submitted before a cut that lasts until another runner has done the rest."""
        self.elsewhere = 0.0
        """Seconds from the long cut to the first execution by another runner."""
        self.gone = 0.0
        """Seconds from the long cut until the server knew of no session from that host."""
        self._what = what
        self._scene = scene
        scene.q.queue(self.queue, slots=SLOTS)
        self.host = scene.network.host()
        self.runner = scene.begin(self.host, queues=self.queue, concurrency=SLOTS)

    def executions(self, task: int) -> list[Execution]:
        return self._scene.executions(task)

    def rows(self, tasks: list[int]) -> list[Task]:
        return self._scene.q.tasks("id = any(%s)", tasks)

    def brief(self) -> None:
        self.brief_tasks = self._cut_amid("brief")
        time.sleep(BRIEF)
        self.host.wire.heal()
        self._end(self.brief_tasks)

    def long(self) -> None:
        self.long_tasks = self._cut_amid("long")
        cut = time.monotonic()
        until(lambda: self._scene.sessions(self.host) == 0, "the server to forget the host", LIMIT, 0.05)
        self.gone = time.monotonic() - cut
        self._end(self.long_tasks)
        self.elsewhere = min(
            e.begin - cut for e in list(self._scene.witness.executions) if e.queue == self.queue and e.begin > cut + 1
        )

    def back(self) -> None:
        """The network is whole again, and the runner has said all that it still had to say."""
        connected = len(self.runner.events("connected"))
        self.host.wire.heal()
        self.runner.says("connected", LIMIT, count=connected + 1)
        free = "select count(*) = 0 from lockgate.task where queue = %s and status = 'running'"
        until(lambda: self._scene.q.db.value(free, self.queue), "nothing to be running", LIMIT)

    def _cut_amid(self, mark: str) -> list[int]:
        """Submits tasks and waits for the cut."""
        mark = f"{self.queue} {mark}"
        wire = self.host.wire
        way = wire.to_server if self._what == "a result is lost" else wire.to_runner
        way.sprung.clear()
        way.trap = mark.encode()
        rows = self._scene.q.db.query(
            "select lockgate.submit(%s, 'echo', jsonb_build_object('n', case n when %s then %s else n::text end))"
            " from generate_series(0, %s) n",
            *(self.queue, AROUND, mark, 2 * AROUND),
        )
        assert way.sprung.wait(LIMIT), f"no packet with {mark!r}"
        return [row[0] for row in rows]

    def _end(self, tasks: list[int]) -> None:
        ended = "select count(*) = %s from lockgate.task where id = any(%s) and status = 'succeeded'"
        until(lambda: self._scene.q.db.value(ended, len(tasks), tasks), f"{len(tasks)} ends", LIMIT, 0.05)


def play(scene: Scene, *, long_only: bool = False) -> dict[str, InFlight]:
    """Both kinds at once; with ``long_only``, neither the brief cut before nor the return after it."""
    scene.q.db.query("select lockgate.set_slots('default', 0)")
    kinds = {what: InFlight(scene, what) for what in WHAT}
    for it in kinds.values():
        it.runner.says("slot taken", LIMIT, count=SLOTS)
        it.runner.says("executor started", LIMIT, count=SLOTS)
    scene.stand_by((it.queue for it in kinds.values()), executors=SLOTS * len(kinds))
    for step in [InFlight.long] if long_only else [InFlight.brief, InFlight.long, InFlight.back]:
        with ThreadPoolExecutor() as pool:
            list(pool.map(step, kinds.values()))
    return kinds
