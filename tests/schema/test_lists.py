"""Lists: newest_queued, created_since. tests/service/test_list.py has list_tasks."""

import random
from datetime import timedelta

import pytest

from tests.contract import Contract


def newest(q: Contract, queue: str | None = None, below: int = 2**63 - 1, limit: int = 100) -> list[int]:
    rows = q.db.query("select lockgate.newest_queued(%s, %s, %s)", queue, below, limit)
    return [row[0] for row in rows]


@pytest.mark.parametrize("seed", range(3))
def test_they_come_by_number_whatever_their_priorities_and_queues(q: Contract, seed: int) -> None:
    chance = random.Random(seed)
    q.queue("mail")
    tasks = []
    for _ in range(60):
        queue, priority = chance.choice(["default", "mail"]), chance.choice([-100, -1, 0, 1, 100])
        tasks.append((q.row(chance.choice(["queued", "queued", "failed"]), queue=queue, priority=priority), queue))
    queued = {task.id for task in q.tasks("status = 'queued'")}
    for wanted in (None, "default", "mail", "nosuch"):
        expected = [task for task, queue in reversed(tasks) if task in queued and wanted in (None, queue)]
        assert newest(q, wanted) == expected
        assert newest(q, wanted, limit=7) == expected[:7]
        if len(expected) > 10:
            assert newest(q, wanted, below=expected[10], limit=5) == expected[11:16]


def test_there_may_be_none(q: Contract) -> None:
    q.row("failed")
    assert newest(q) == []


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
