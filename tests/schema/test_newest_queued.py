"""newest_queued: the queued tasks by number, out of an index that has them by priority."""

import random

import pytest

from tests.contract import Contract


def newest(q: Contract, queue: str | None = None, below: int = 2**63 - 1, limit: int = 100) -> list[int]:
    rows = q.service.execute("select lockgate.newest_queued(%s, %s, %s)", (queue, below, limit)).fetchall()
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
