"""created_since: where a time is among the numbers of tasks."""

from datetime import timedelta

import pytest

from tests.contract import Contract


def since(q: Contract, minutes: float) -> int:
    number: int = q.db.value("select lockgate.created_since(%s)", q.now() - timedelta(minutes=minutes))
    return number


def test_it_is_the_first_that_is_not_older(q: Contract) -> None:
    numbers = []
    for minutes in range(20, 0, -2):
        numbers.append(q.row(create_time=q.now() - timedelta(minutes=minutes)))
        q.db.query("select setval('lockgate.task_id_seq', (select last_value * 3 from lockgate.task_id_seq))")
    for place, minutes in enumerate(range(20, 0, -2)):
        before = numbers[place - 1] if place else 0
        assert before < since(q, minutes + 1) <= numbers[place]


@pytest.mark.parametrize("minutes", [-1.0, 1.0])
def test_before_all_it_is_the_first_and_after_all_beyond_the_last(q: Contract, minutes: float) -> None:
    assert since(q, minutes) == 1
    numbers = [q.row() for _ in range(3)]
    assert since(q, minutes) <= numbers[0] if minutes > 0 else since(q, minutes) > numbers[-1]
