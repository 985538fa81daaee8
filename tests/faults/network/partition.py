"""A runner is parted from the database, another has its task, and the first one comes back: what happened when.

Several kinds of cut at once, each with a runner on a host of its own that works in the only slot of a queue of its own.
One more runner, on a sound host, stands by for all of them.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lockgate.witness import Execution
from tests.contract import Task, until
from tests.faults.network.network import Host
from tests.faults.network.scene import LIMIT, Scene

BRIEF = 2.0
"""Seconds of a partition that is over before any deadline is."""


def lose_everything(host: Host) -> None:
    host.wire.cut()


def lose_answers(host: Host) -> None:
    host.wire.to_runner.open = False


def lose_requests(host: Host) -> None:
    host.wire.to_server.open = False


def refuse_everything(host: Host) -> None:
    host.wire.refuse()


@dataclass
class Kind:
    """How a partition is made, and how many seconds the handler takes that it finds at work."""

    make: Callable[[Host], None]
    seconds: float = 60.0


KINDS = {
    "everything lost": Kind(lose_everything),
    "answers lost": Kind(lose_answers),
    "requests lost": Kind(lose_requests),
    "everything refused": Kind(refuse_everything),
    "host gone": Kind(Host.vanish),
    "result late": Kind(lose_everything, seconds=2),
}


class Partition:
    """One kind of partition and what was seen of it; times are seconds after the cut."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.kept = self.task = self.later = 0
        """Tasks: of the brief partition, of the long one, and of after it."""
        self.gone = self.dead = self.elsewhere = 0.0
        """Until the server knew of no session of that host, the executor was dead, the task executed again.
        """
        self.row: Task | None = None
        """The task of the long partition when it had ended elsewhere."""
        self.row_later: Task | None = None
        """The same when the parted runner had come back."""
        self._scene = scene
        self._kind = KINDS[name]
        self.queue = name.replace(" ", "-")
        scene.q.queue(self.queue, slots=1)
        self.host = scene.network.host()
        # The whole of what there is on a host, where it is the host that goes.
        module = "lockgate_runner" if self.comes_back else "lockgate run"
        self.runner = scene.begin(self.host, module=module, queues=self.queue)

    @property
    def comes_back(self) -> bool:
        return self._kind.make is not Host.vanish

    def executions(self, task: int) -> list[Execution]:
        return self._scene.executions(task)

    def brief(self) -> None:
        """A partition that is over before any deadline is."""
        if not self.comes_back:
            return
        self.kept = self._begin(BRIEF + 3)
        self._kind.make(self.host)
        time.sleep(BRIEF)
        self.host.wire.heal()
        self._end(self.kept)

    def long(self) -> None:
        """Until the task has executed elsewhere, and the server has forgotten about the host."""
        self.task = self._begin(self._kind.seconds)
        cut = time.monotonic()
        self._kind.make(self.host)
        until(lambda: self._scene.sessions(self.host) == 0, "the server to forget the host", LIMIT, 0.05)
        self.gone = time.monotonic() - cut
        first, second = until(lambda: len(e := self.executions(self.task)) > 1 and e, "a second start", LIMIT)
        self.elsewhere = second.begin - cut
        self.dead = until(lambda: first.end, "the first executor's end", LIMIT) - cut
        self.row = self._end(self.task)

    def back(self) -> None:
        """The network is whole again."""
        if not self.comes_back:
            return
        self.host.wire.heal()
        self.runner.says("lease lost", LIMIT, task=self.task)
        self.row_later = self._scene.q.task(self.task)

    def alone(self) -> None:
        """Nobody else is there any more."""
        if not self.comes_back:
            return
        self.later = self._scene.q.submit("linger", queue=self.queue, payload={"seconds": 0})
        self._end(self.later)

    def _begin(self, seconds: float) -> int:
        task = self._scene.q.submit("linger", queue=self.queue, payload={"seconds": seconds})
        until(lambda: self.executions(task), f"task {task} to execute", LIMIT)
        return task

    def _end(self, task: int) -> Task:
        return until(lambda: (row := self._scene.q.task(task)).status == "succeeded" and row, f"end of {task}", LIMIT)


def play(scene: Scene, *, long_only: bool = False) -> dict[str, Partition]:
    """All kinds at once, one act after the other; a kind that fails in one has its failure and is out.

    With ``long_only``, neither the brief partition before nor the return after it.
    """
    scene.q.db.query("select lockgate.set_slots('default', 0)")
    partitions = [Partition(scene, name) for name in KINDS]

    def act(step: Callable[[Partition], object]) -> None:
        with ThreadPoolExecutor(len(partitions)) as pool:
            pool.map(lambda partition: perform(partition, step), partitions)

    act(lambda partition: partition.runner.says("slot taken", LIMIT))
    other = scene.stand_by((partition.queue for partition in partitions), executors=len(partitions))
    if not long_only:
        act(Partition.brief)
    act(Partition.long)
    if not long_only:
        act(Partition.back)
        other.stop(LIMIT)
        act(Partition.alone)
    return {partition.name: partition for partition in partitions}


def perform(partition: Partition, step: Callable[[Partition], object]) -> None:
    """One step of one partition, unless an earlier one has failed."""
    if partition.failure is None:
        try:
            step(partition)
        except Exception as failure:
            partition.failure = failure
