"""Lines neither whole nor cut: slow and lossy ones, and ones that come and go. The promise holds on them too."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.contract import until
from tests.faults.network.network import Host
from tests.faults.network.scene import LIMIT, Scene

SECONDS = 15.0
"""How long the lines are bad."""

SLOTS = 2

pytestmark = pytest.mark.timeout(400)


@dataclass
class Line:
    """Two runners, each on a bad line of its own, and the tasks of their queue."""

    hosts: list[Host]
    queue: str
    tasks: list[int] = field(default_factory=list)
    ended: int = 0
    """How many of them had ended before the lines were good again."""


def slow_and_lossy(line: Line) -> None:
    """100 ± 50 ms each way, and one of twenty packets lost each way."""
    for host in line.hosts:
        for way in (host.wire.to_server, host.wire.to_runner):
            way.delay, way.jitter, way.loss = 0.1, 0.05, 0.05
    time.sleep(SECONDS)


def coming_and_going(line: Line) -> None:
    """Whole for a moment, then one or both ways lost for up to three seconds."""
    end = time.monotonic() + SECONDS

    def shake(host: Host, dice: random.Random) -> None:
        ways = host.wire.to_server, host.wire.to_runner
        while time.monotonic() < end:
            for way in dice.choice([ways, ways[:1], ways[1:]]):
                way.open = False
            time.sleep(dice.uniform(0.05, 3))
            host.wire.heal()
            time.sleep(dice.uniform(0.05, 1))

    with ThreadPoolExecutor() as pool:
        list(pool.map(shake, line.hosts, (random.Random(seed) for seed in range(len(line.hosts)))))


KINDS = {"slow and lossy": slow_and_lossy, "coming and going": coming_and_going}


@pytest.fixture(scope="module")
def lines(scene: Scene) -> dict[str, Line]:
    """Both at once. A third runner, on a good line, stands by for both."""
    scene.q.db.query("select lockgate.set_slots('default', 0)")
    lines = {}
    for kind in KINDS:
        line = lines[kind] = Line([scene.network.host() for _ in range(SLOTS)], kind.replace(" ", "-"))
        scene.q.queue(line.queue, slots=SLOTS, backoff_base=0.1, max_attempts=20)
        for host in line.hosts:
            scene.begin(host, queues=line.queue)
    for runner in scene.runners:
        runner.says("slot taken", LIMIT)
    scene.stand_by((line.queue for line in lines.values()), executors=1)
    for line in lines.values():
        rows = scene.q.db.query(
            "select lockgate.submit(%s, 'linger', jsonb_build_object('seconds', (n %% 10) * 0.05))"
            " from generate_series(1, 200) n",
            line.queue,
        )
        line.tasks = [row[0] for row in rows]

    def play(kind: str) -> None:
        line = lines[kind]
        KINDS[kind](line)
        ended = "select count(*) from lockgate.task where id = any(%s) and status = 'succeeded'"
        line.ended = scene.q.db.value(ended, line.tasks)
        for host in line.hosts:
            host.wire.heal()
        until(lambda: scene.q.db.value(ended, line.tasks) == len(line.tasks), f"all of {kind} to end", LIMIT, 0.1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(play, KINDS))
    return lines


@pytest.fixture(params=list(KINDS))
def line(lines: dict[str, Line], request: pytest.FixtureRequest) -> Line:
    assert all(host.wire.to_server.lost and host.wire.to_runner.lost for host in lines[request.param].hosts)
    return lines[request.param]


def test_no_slot_is_used_twice_at_once_on_a_bad_line(line: Line, scene: Scene) -> None:
    assert scene.witness.most[line.queue] <= SLOTS


def test_work_goes_on_on_a_slow_and_lossy_line(lines: dict[str, Line]) -> None:
    assert lines["slow and lossy"].ended >= 10


def test_every_task_ends_once_after_a_bad_line(line: Line, scene: Scene) -> None:
    rows = scene.q.tasks("id = any(%s)", line.tasks)
    assert [row.status for row in rows] == ["succeeded"] * len(line.tasks)
    assert scene.ended_twice() == []
