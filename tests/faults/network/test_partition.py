"""A runner that is parted from the database in whatever way: nobody executes twice, and nothing waits for long.

All kinds of partition are played once, at the same time; each test looks at one side of what was seen.
"""

from datetime import datetime

import pytest

from tests.faults.network.partition import KINDS, Partition, play
from tests.faults.network.scene import Scene

BOUND = 30.0
"""Seconds that anything may take with the settings as they come: a grace of 5."""

RETURNING = [name for name in KINDS if name != "host gone"]


@pytest.fixture(scope="module")
def partitions(scene: Scene) -> dict[str, Partition]:
    return play(scene)


@pytest.fixture
def partition(partitions: dict[str, Partition], request: pytest.FixtureRequest) -> Partition:
    it = partitions[request.param]
    if it.failure:
        raise it.failure
    return it


def every(names: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("partition", names, indirect=True)


# The first of these tests plays everything.
pytestmark = pytest.mark.timeout(400)


@every(list(KINDS))
def test_a_parted_runners_executor_is_dead_before_its_task_executes_elsewhere(
    partition: Partition, scene: Scene
) -> None:
    first, second = partition.executions(partition.task)
    assert first.end is not None
    assert first.end <= second.begin
    assert scene.witness.most[partition.queue] == 1


@every(list(KINDS))
def test_a_parted_runners_task_executes_elsewhere_within_half_a_minute(partition: Partition) -> None:
    assert partition.row is not None
    assert (partition.row.attempt, partition.row.result) == (2, {"attempt": 2, "lease": partition.row.lease})
    assert partition.elsewhere < BOUND


@every(list(KINDS))
def test_the_server_keeps_no_session_of_a_parted_host_for_longer_than_half_a_minute(partition: Partition) -> None:
    assert partition.gone < BOUND


@every(RETURNING)
def test_a_partition_shorter_than_the_deadline_stops_nothing(partition: Partition) -> None:
    (execution,) = partition.executions(partition.kept)
    (taken,) = partition.runner.events("taken", task=partition.kept)
    (finished,) = partition.runner.events("finished", task=partition.kept)
    assert execution.lease == taken["lease"] == finished["lease"]
    assert not partition.runner.events("executor died", task=partition.kept)


@every(RETURNING)
def test_what_a_runner_still_says_about_a_task_it_was_parted_from_changes_nothing(partition: Partition) -> None:
    (lost,) = partition.runner.events("lease lost", task=partition.task)
    assert partition.row is not None
    assert lost["lease"] < (partition.row.lease or 0)
    assert partition.row_later == partition.row


@every(RETURNING)
def test_a_runner_takes_slots_again_after_a_long_partition(partition: Partition) -> None:
    assert partition.runner.events("finished", task=partition.later, status="succeeded")


def test_a_runner_that_is_refused_again_and_again_does_not_say_so_each_time(partitions: dict[str, Partition]) -> None:
    lines = partitions["everything refused"].runner.events("database unreachable")
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times
    assert all((fifth - first).total_seconds() > 2 for first, fifth in zip(times, times[4:], strict=False))


@every(list(KINDS))
def test_a_parted_runner_says_nothing_but_events(partition: Partition) -> None:
    assert partition.runner.noise == []


def test_no_task_has_ended_twice(partitions: dict[str, Partition], scene: Scene) -> None:
    assert not [partition.failure for partition in partitions.values() if partition.failure]
    assert scene.ended_twice() == []
    assert scene.q.tasks("status <> 'succeeded'") == []


def test_a_runner_stops_when_it_is_told_to_in_a_partition(partitions: dict[str, Partition]) -> None:
    partition = partitions["everything lost"]
    lost = len(partition.runner.events("session lost"))
    partition.host.wire.cut()
    partition.runner.says("session lost", count=lost + 1)
    assert partition.runner.stop(limit=15) == 0
