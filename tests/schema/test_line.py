"""The order in which a queue's tasks are claimed, also by a session that goes on from where it was last."""

import random

from tests.contract import Contract, Session

IN_ORDER = "select id from lockgate.task where status = 'queued' order by priority desc, id"


def take_the_short_way(runner: Session) -> None:
    """From now on, as after a look from the very beginning that took long."""
    runner.conn.execute(f"set lockgate.short_until_{runner.q.queue_id()} = 'infinity'")


def look_from_the_beginning(runner: Session) -> None:
    runner.conn.execute(f"set lockgate.short_until_{runner.q.queue_id()} = ''")


def test_higher_priorities_go_first_and_then_smaller_numbers(q: Contract) -> None:
    dice = random.Random(3)
    runner = q.runner()
    runner.take(1)
    for _ in range(12):
        q.submit(priority=dice.choice([-100, -1, 0, 7, 100]))
    expected = [row[0] for row in q.db.query(IN_ORDER)]
    claimed = []
    while one := runner.claim():
        claimed.append(one.task)
        runner.finish(one)
    assert claimed == expected


def test_the_short_way_keeps_the_order_of_all_that_is_submitted(q: Contract) -> None:
    dice = random.Random(4)
    runner = q.runner()
    runner.take(1)
    q.submit()
    runner.finish(runner.work())
    take_the_short_way(runner)
    for _ in range(40):
        for _ in range(dice.randint(0, 3)):
            q.submit(priority=dice.choice([-100, -1, 0, 7, 100]))
        expected = q.db.query(IN_ORDER + " limit 1")
        claimed = runner.claim()
        assert [(claimed.task,)] == expected if claimed else expected == []
        if claimed:
            runner.finish(claimed)


def test_a_task_that_comes_back_ahead_of_the_head_waits_for_a_look_from_the_beginning(q: Contract) -> None:
    first, second, third, fourth = (q.submit() for _ in range(4))
    runner = q.runner()
    claimed = runner.work()
    assert claimed.task == first
    take_the_short_way(runner)
    assert runner.fail(claimed, discard=True) == "failed"
    passed = runner.work()
    assert passed.task == second
    q.db.query("select lockgate.retry(%s)", first)
    runner.finish(passed)
    passed = runner.work()
    assert passed.task == third
    runner.finish(passed)
    look_from_the_beginning(runner)
    assert runner.work().task == first
    assert q.task(fourth).status == "queued"


def test_the_short_way_ends_where_nothing_is_left(q: Contract) -> None:
    first, second = q.submit(), q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.fail(claimed, discard=True)
    claimed = runner.work()
    assert claimed.task == second
    take_the_short_way(runner)
    q.db.query("select lockgate.retry(%s)", first)
    runner.finish(claimed)
    assert runner.work().task == first


def test_heads_are_those_of_the_queue(q: Contract) -> None:
    q.queue("other")
    runner = q.runner()
    take_the_short_way(runner)
    there = q.submit(queue="other")
    here = [q.submit() for _ in range(3)]
    for task in here:
        claimed = runner.work()
        assert claimed.task == task
        runner.finish(claimed)
    assert runner.work(queue="other").task == there


def test_nothing_is_claimed_into_a_slot_whose_newest_task_still_runs(q: Contract) -> None:
    running = q.submit()
    q.submit()
    runner = q.runner()
    assert runner.work().task == running
    assert runner.claim() is None
    q.change(running, status="queued", slot=None)
    assert runner.claim()
