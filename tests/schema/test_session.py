"""A runner's session: register and deregister."""

from typing import Any

from tests.contract import Contract


def overview(q: Contract) -> list[tuple[Any, ...]]:
    return q.db.query("select session, runner, alive, running from lockgate.runner_overview")


def test_a_registered_session_is_alive_until_it_ends(q: Contract) -> None:
    runner = q.runner("r1", host="h", pid=7, version="1.2", concurrency=3, queues=["default"], kinds=["a", "b"])
    assert q.db.query(
        "select session, runner, host, pid, backend_pid, version, concurrency, queues, kinds from lockgate.runner"
    ) == [(runner.number, "r1", "h", 7, runner.pid, "1.2", 3, ["default"], ["a", "b"])]
    assert overview(q) == [(runner.number, "r1", True, 0)]
    runner.die()
    assert overview(q) == [(runner.number, "r1", False, 0)]


def test_every_session_has_a_number_of_its_own(q: Contract) -> None:
    runner = q.runner()
    first = runner.number
    runner.reconnect()
    assert runner.number > first
    assert [(session, alive) for session, _, alive, _ in overview(q)] == [(first, False), (runner.number, True)]


def test_deregistering_forgets_the_session_and_frees_every_lock(q: Contract) -> None:
    runner = q.runner()
    assert (runner.take(), runner.take()) == (1, 2)
    runner.deregister()
    assert overview(q) == []
    assert q.db.query("select from pg_locks where locktype = 'advisory' and pid = %s", runner.pid) == []


def test_sessions_gone_for_a_day_are_forgotten_and_living_ones_are_not(q: Contract) -> None:
    gone, recent, living = q.runner("gone"), q.runner("recent"), q.runner("living")
    gone.die()
    recent.die()
    q.db.query("update lockgate.runner set since = now() - interval '25 hours' where runner <> 'recent'")
    q.runner("new")
    assert [name for _, name, _, _ in overview(q)] == ["recent", "living", "new"]
    assert living.number in [session for session, _, alive, _ in overview(q) if alive]
