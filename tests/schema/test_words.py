"""What a handler says while it executes: report_progress and write_output."""

from typing import Any

from psycopg.types.json import Jsonb

from tests.contract import Claimed, Contract, Session


def report(runner: Session, claimed: Claimed, progress: Any) -> Any:
    call = "select lockgate.report_progress(%s, %s, %s, %s)"
    return runner.value(call, claimed.task, claimed.lease, runner.name, Jsonb(progress))


def write(runner: Session, claimed: Claimed, text: str) -> None:
    runner.value("select lockgate.write_output(%s, %s, %s)", claimed.task, claimed.lease, text)


def output(q: Contract) -> list[tuple[Any, ...]]:
    return q.db.query("select task, lease, text from lockgate.output_detail order by lease")


def test_the_last_progress_is_what_counts(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    for done in (1, 2):
        assert report(runner, claimed, {"done": done}) is True
    assert q.task(number).progress == {"done": 2}
    runner.finish(claimed)
    assert q.task(number).progress == {"done": 2}


def test_progress_under_a_lease_that_is_over_is_not_stored(q: Contract) -> None:
    number = q.submit()
    runner, other = q.runner(), q.runner()
    claimed = runner.work()
    runner.return_task(claimed)
    assert report(runner, claimed, 1) is False
    current = runner.claim()
    assert current is not None
    assert report(runner, claimed, 1) is False
    assert report(other, current, 1) is False
    assert q.task(number).progress is None


def test_progress_is_at_most_16_kib(q: Contract) -> None:
    q.submit()
    runner = q.runner()
    claimed = runner.work()
    with q.breaks("progress_is_at_most_16_kib"):
        report(runner, claimed, "x" * 16384)
    assert report(runner, claimed, "x" * 16382) is True


def test_output_grows_by_attempt(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    first = runner.work()
    write(runner, first, "one\n")
    write(runner, first, "two\n")
    runner.fail(first, retry_after=0)
    second = runner.claim()
    assert second is not None
    write(runner, second, "three\n")
    assert output(q) == [(number, first.lease, "one\ntwo\n"), (number, second.lease, "three\n")]


def test_of_much_output_the_end_is_kept(q: Contract) -> None:
    q.submit()
    runner = q.runner()
    claimed = runner.work()
    write(runner, claimed, "a" * 70000)
    write(runner, claimed, "b" * 10)
    [(_, _, text)] = output(q)
    assert text == "a" * 65526 + "b" * 10


def test_output_of_a_task_that_is_gone_is_dropped(q: Contract) -> None:
    runner = q.runner()
    write(runner, Claimed(1, 1, "default", "sleep", {}, 1, 1, None, 5.0, None), "text")
    assert output(q) == []
