"""When an adopter may act, by its own clock alone."""

import math
from datetime import UTC, datetime

import msgspec
from lockgate_runner.adoption import Sightings, Verdict
from lockgate_runner.db import Occupied

START = datetime(2030, 1, 1, tzinfo=UTC)
FREE = Occupied(
    queue=1, slot=1, task=7, lease=3, runner="other", session=9, grace=5.0, cancel_requested=None, pid=None,
    backend_start=None, state_change=None, silence=None,
)  # fmt: skip
HELD = msgspec.structs.replace(FREE, pid=100, backend_start=START, state_change=START, silence=0.1)


def judge(sightings: Sightings, row: Occupied, received: float, inherited: tuple[str, ...] = ()) -> Verdict:
    return sightings.judge([row], received, pid=1, slots=(), inherited=inherited)


def test_a_free_lock_is_waited_out_for_the_grace_from_its_first_sight() -> None:
    sightings = Sightings()
    assert judge(sightings, FREE, 10.0) == Verdict([], [], 15.0)
    assert judge(sightings, FREE, 14.999) == Verdict([], [], 15.0)
    assert judge(sightings, FREE, 15.0) == Verdict([FREE], [], math.inf)


def test_a_new_lease_session_or_owner_begins_the_wait_anew() -> None:
    for changed in ({"lease": 4}, {"session": 10}):
        sightings = Sightings()
        judge(sightings, FREE, 10.0)
        assert judge(sightings, msgspec.structs.replace(FREE, **changed), 15.0).orphans == []
    sightings = Sightings()
    judge(sightings, FREE, 10.0)
    judge(sightings, HELD, 12.0)
    assert judge(sightings, FREE, 15.0).orphans == []


def test_a_holder_is_silent_after_twice_the_grace_without_a_statement() -> None:
    sightings = Sightings()
    judge(sightings, HELD, 10.0)
    assert judge(sightings, HELD, 19.9).silent == []
    assert judge(sightings, HELD, 20.0).silent == [HELD]
    spoke = msgspec.structs.replace(HELD, state_change=datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert judge(sightings, spoke, 30.0).silent == []


def test_when_the_wait_for_a_silent_holder_is_over_it_is_looked_at_again() -> None:
    """Who speaks now and then is nothing to come back for: a look for that alone would be one every ten seconds."""
    assert judge(Sightings(), HELD, 10.0).next_at == math.inf
    suspicious = msgspec.structs.replace(HELD, silence=2.6)
    assert judge(Sightings(), suspicious, 10.0).next_at == 20.0


def test_what_is_ours_or_of_another_login_is_left_alone() -> None:
    # Each with sightings of its own: what is seen in between ends a wait.
    free, held, hidden = Sightings(), Sightings(), Sightings()
    unseen = msgspec.structs.replace(HELD, state_change=None)
    for received in (0.0, 100.0):
        assert free.judge([FREE], received, pid=1, slots={(1, 1)}, inherited=()).orphans == []
        assert held.judge([HELD], received, pid=100, slots=(), inherited=()).silent == []
        assert judge(hidden, unseen, received).silent == []


def test_a_proved_death_is_not_waited_for() -> None:
    assert judge(Sightings(), FREE, 10.0, inherited=("other",)).orphans == [FREE]


def test_the_session_of_a_proved_dead_runner_is_ended_when_it_says_no_more() -> None:
    sightings = Sightings()
    assert judge(sightings, HELD, 10.0, inherited=("other",)) == Verdict([], [], 10.1)
    assert judge(sightings, HELD, 10.1, inherited=("other",)).silent == [HELD]


def test_a_living_adopter_of_a_proved_dead_runners_task_is_left_alone() -> None:
    sightings = Sightings()
    judge(sightings, HELD, 10.0, inherited=("other",))
    adopting = msgspec.structs.replace(HELD, state_change=datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert judge(sightings, adopting, 10.1, inherited=("other",)).silent == []
