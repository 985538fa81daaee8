"""A cut with data on its way: nobody can know whether it arrived, and nothing depends on it."""

import pytest

from tests.faults.network.in_flight import SLOTS, WHAT, InFlight, play
from tests.faults.network.scene import Scene

BOUND = 30.0
"""Seconds that anything may take with the settings as they come: a grace of 5."""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def played(scene: Scene) -> dict[str, InFlight]:
    return play(scene)


@pytest.fixture(params=WHAT)
def in_flight(played: dict[str, InFlight], request: pytest.FixtureRequest) -> InFlight:
    return played[request.param]


def test_after_a_brief_cut_every_task_has_executed_once_and_by_its_owner(in_flight: InFlight) -> None:
    rows = in_flight.rows(in_flight.brief_tasks)
    assert {(row.status, row.attempt, row.runner) for row in rows} == {("succeeded", 1, in_flight.runner.name)}
    assert [len(in_flight.executions(row.id)) for row in rows] == [1] * len(in_flight.brief_tasks)
    assert in_flight.runner.events("session lost")


def test_no_task_is_lost_in_a_long_cut(in_flight: InFlight) -> None:
    rows = in_flight.rows(in_flight.long_tasks)
    assert [row.id for row in rows] == in_flight.long_tasks
    assert {row.status for row in rows} == {"succeeded"}
    assert all(row.result == row.payload for row in rows)
    assert {row.runner for row in rows} > {in_flight.runner.name}


def test_slots_are_free_half_a_minute_after_a_cut_with_data_in_flight(in_flight: InFlight) -> None:
    assert in_flight.gone < BOUND
    assert in_flight.elsewhere < BOUND


def test_no_slot_was_used_twice_at_once(in_flight: InFlight, scene: Scene) -> None:
    assert scene.witness.most[in_flight.queue] <= SLOTS


def test_no_task_has_ended_twice(played: dict[str, InFlight], scene: Scene) -> None:
    assert scene.ended_twice() == []
