"""Draining: what a runner process is told, over all its sessions."""

from tests.contract import Contract, Session


def draining(runner: Session) -> bool:
    """As it is told itself and as everybody sees it."""
    told: bool = runner.value("select lockgate.is_draining(%s)", runner.number)
    seen = runner.q.db.value("select draining from lockgate.runner_overview where session = %s", runner.number)
    assert told == seen
    return told


def say(q: Contract, verb: str, name: str) -> None:
    q.service.execute(f"select lockgate.{verb}_runner(%s)", (name,))


def test_a_runner_drains_until_it_is_resumed_and_no_other_does(q: Contract) -> None:
    one, other = q.runner("one"), q.runner("other")
    with q.heard() as said:
        say(q, "drain", "one")
    assert said == ["drain one"]
    assert (draining(one), draining(other)) == (True, False)
    say(q, "resume", "one")
    assert not draining(one)


def test_a_slot_that_is_passed_on_is_free_when_others_hear_of_it(q: Contract) -> None:
    runner, other = q.runner(), q.runner()
    runner.take(1)
    with q.heard() as said:
        assert runner.value("select lockgate.pass_slot_on(%s, 1)", q.queue_id()) is True
        assert runner.value("select lockgate.pass_slot_on(%s, 1)", q.queue_id()) is False
    assert said == ["slots default"] * 2
    assert other.take(1) == 1


def test_it_drains_on_over_a_lost_session(q: Contract) -> None:
    runner = q.runner()
    say(q, "drain", runner.name)
    q.db.query("update lockgate.runner set since = now() - interval '2 days'")
    runner.reconnect()
    assert draining(runner)
    say(q, "resume", runner.name)
    runner.reconnect()
    assert not draining(runner)


def test_a_runner_that_is_unknown_cannot_be_told(q: Contract) -> None:
    for verb in ("drain", "resume"):
        with q.refused("LG010"):
            say(q, verb, "nobody")


def test_who_drains_stands_by_for_nobody(q: Contract) -> None:
    runner = q.runner()
    stats = "select runners, standbys from lockgate.queue_stats"
    assert q.db.query(stats) == [(1, 1)]
    say(q, "drain", runner.name)
    assert q.db.query(stats) == [(0, 0)]


def test_stand_by_is_who_serves_a_queue_has_room_and_holds_none_of_its_slots(q: Contract) -> None:
    q.queue("other")
    q.runner(queues=["other"])
    holder = q.runner(concurrency=2)
    holder.take(1)
    gone = q.runner()
    gone.die()
    stats = "select queue, held, runners, standbys from lockgate.queue_stats"
    assert q.db.query(stats) == [("default", 1, 1, 0), ("other", 0, 2, 2)]
    holder.take(2)
    assert q.db.query(stats) == [("default", 2, 1, 0), ("other", 0, 2, 1)]
