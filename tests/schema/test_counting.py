"""Counting: each end once, in its minute, whatever becomes of its task; and nothing of it on the way of a claim."""

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.contract import BOOM, Contract, Session

ENDED = ("succeeded", "failed", "cancelled")


def counted(q: Contract) -> dict[str, int]:
    """Ends of all queues so far, and the minutes say the same."""
    columns = ", ".join(f"coalesce(sum({status}), 0)::int" for status in ENDED)
    total, minutes = (
        q.db.query(f"select {columns} from lockgate.{table}")[0] for table in ("stats_total", "stats_minute")
    )
    assert total == minutes
    return {status: n for status, n in zip(ENDED, total, strict=True) if n}


def end(q: Contract, status: str, seconds: float = 60, **columns: Any) -> int:
    """A task that ended so many seconds ago, having waited a second and executed two."""
    finish = q.now() - timedelta(seconds=seconds)
    times: dict[str, Any] = {"create_time": finish - timedelta(seconds=3), "run_at": finish - timedelta(seconds=3)}
    times |= {"start_time": finish - timedelta(seconds=2), "finish_time": finish, "exec_time": 2.0}
    return q.row(status, **(times | columns))


def count(runner: Session, batch: int = 2000) -> int | None:
    done: int | None = runner.value("select lockgate.roll_up(%s)", batch)
    return done


def count_all(runner: Session, batch: int = 2000) -> None:
    while count(runner, batch):
        pass


def minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def test_each_end_is_counted_once_in_its_minute(q: Contract) -> None:
    q.queue("other")
    early, late = minute(q.now()) - timedelta(minutes=9), minute(q.now()) - timedelta(minutes=5)
    for time, status, queue in [
        (early, "succeeded", "default"),
        (early, "failed", "default"),
        (late, "failed", "other"),
    ]:
        end(q, status, finish_time=time + timedelta(seconds=59.9), queue=queue)
    q.row("queued", queue="other")
    runner = q.runner()
    count_all(runner)
    count_all(runner)
    assert counted(q) == {"succeeded": 1, "failed": 2}
    rows = q.db.query(
        "select queue, minute, succeeded, failed from lockgate.stats_minute where queued is null order by 1, 2"
    )
    assert rows == [("default", early, 1, 1), ("other", late, 0, 1)]


def test_what_ended_just_now_waits_for_others_that_end_now(q: Contract) -> None:
    end(q, "succeeded", 0)
    assert count(q.runner()) == 0
    assert counted(q) == {}
    assert q.db.query("select queue, succeeded from lockgate.ended_since(now() - interval '1 hour')") == [
        (None, 1),
        ("default", 1),
    ]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("what", ["retry", "delete", "purge", "delete_expired", "by hand"])
def test_an_end_counts_also_when_its_task_is_retried_or_gone(q: Contract, what: str, before: bool) -> None:
    number, runner = end(q, "failed"), q.runner()
    if not before:
        count_all(runner)
    match what:
        case "retry":
            q.service.execute("select lockgate.retry(%s)", (number,))
        case "delete":
            q.service.execute("select lockgate.delete_task(%s)", (number,))
        case "purge":
            q.service.execute("select lockgate.purge('default')")
        case "delete_expired":
            q.queue(retention=0)
            assert runner.value("select lockgate.delete_expired()") == 1
        case "by hand":
            q.db.query("delete from lockgate.task")
    since = "select failed from lockgate.ended_since(now() - interval '1 hour') where queue is null"
    assert q.db.value(since) == 1
    count_all(runner)
    assert counted(q) == {"failed": 1}
    assert q.db.value(since) == 1
    assert q.db.value("select count(*) from lockgate.stats_uncounted") == 0
    assert q.db.value("select ran from lockgate.stats_total") == 1


def test_a_task_that_fails_again_counts_again(q: Contract) -> None:
    number, runner = end(q, "failed", 600), q.runner()
    q.service.execute("select lockgate.retry(%s)", (number,))
    q.change(number, status="failed", error=BOOM, finish_time=q.now() - timedelta(seconds=60))
    count_all(runner)
    assert counted(q) == {"failed": 2}


def test_an_end_that_is_counted_while_its_task_is_retried_counts_once(q: Contract) -> None:
    number, runner = end(q, "failed"), q.runner()
    with q.service.transaction():
        q.service.execute("select lockgate.retry(%s)", (number,))
        count_all(runner)
        assert counted(q) == {"failed": 1}
    assert q.db.value("select count(*) from lockgate.stats_uncounted") == 1
    end(q, "succeeded", 30)
    count_all(runner)
    assert counted(q) == {"failed": 1, "succeeded": 1}
    assert q.db.value("select count(*) from lockgate.stats_uncounted") == 0


def test_a_step_takes_no_more_than_it_is_told_also_of_what_ended_at_one_moment(q: Contract) -> None:
    moment = q.now() - timedelta(seconds=90)
    for _ in range(5):
        end(q, "cancelled", finish_time=moment)
    runner = q.runner()
    assert [count(runner, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert counted(q) == {"cancelled": 5}


def test_one_session_counts(q: Contract) -> None:
    first, second = q.runner(), q.runner()
    assert (count(first), count(second), first.value("select lockgate.delete_expired()")) == (0, None, 0)
    first.die()
    assert count(second) == 0


def test_a_claim_and_a_finish_do_not_touch_what_is_counted(q: Contract) -> None:
    for _ in range(3):
        q.submit()
    runner = q.runner()
    claimed = runner.work()
    touched = (
        "select sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd + n_tup_del)"
        " from pg_stat_xact_all_tables where schemaname = 'lockgate' and relname like 'stats_%%'"
    )
    with runner.conn.transaction():
        before = runner.value(touched)
        following = runner.finish_and_claim(claimed)
        assert following is not None
        runner.fail(following)
        assert runner.value(touched) == before


def test_waits_and_runs_are_told_to_within_an_eighth(q: Contract) -> None:
    start = q.now() - timedelta(seconds=300)
    for n in range(1, 101):
        run_at = start - timedelta(seconds=n / 10)
        end(q, "succeeded", create_time=run_at, run_at=run_at, start_time=start, exec_time=float(n), finish_time=start)
    runner = q.runner()
    for _ in range(2):
        of_all, of_queue = q.db.query(
            "select wait_median, wait_p95, run_median, run_p95 from lockgate.ended_since(now() - interval '1 hour')"
        )
        assert of_all == of_queue
        wait_median, wait_p95, run_median, run_p95 = of_all
        assert (wait_median, wait_p95) == (pytest.approx(5, rel=0.125), pytest.approx(9.5, rel=0.125))
        assert (run_median, run_p95) == (pytest.approx(50, rel=0.125), pytest.approx(95, rel=0.125))
        count_all(runner, 30)
    assert q.db.query("select waited, round(wait_sum::numeric), ran, run_sum from lockgate.stats_total") == [
        (100, 505, 100, 5050)
    ]


def test_an_end_without_a_start_of_its_own_has_no_wait_and_no_run(q: Contract) -> None:
    """Cancelled while it waited for another attempt: what the row says is of the attempt before."""
    end(q, "cancelled", run_at=q.now() - timedelta(seconds=60))
    end(q, "cancelled", start_time=None, exec_time=None)
    count_all(q.runner())
    assert q.db.query("select cancelled, waited, ran from lockgate.stats_total") == [(2, 0, 0)]


@pytest.mark.parametrize("exec_time", ["NaN", "Infinity", "-Infinity", "-1", "1e308"])
def test_whatever_a_runner_says_of_its_clock_is_counted(q: Contract, exec_time: str) -> None:
    end(q, "succeeded", exec_time=float(exec_time))
    count_all(q.runner())
    assert counted(q) == {"succeeded": 1}
    assert q.db.value("select run_sum between 0 and 1e9 from lockgate.stats_total")


def test_each_minute_says_how_much_waited_at_its_beginning(q: Contract) -> None:
    runner = q.runner()
    assert count(runner) == 0
    assert q.db.query("select * from lockgate.stats_minute") == []
    for status, times in {"queued": 3, "scheduled": 2, "running": 1}.items():
        for _ in range(times):
            q.row(status)
    count(runner)
    q.row("queued")
    count(runner)
    rows = q.db.query("select distinct queued, scheduled, running from lockgate.stats_minute")
    assert rows in ([(3, 2, 1)], [(3, 2, 1), (4, 2, 1)])  # a minute may have begun in between


def test_minutes_are_kept_for_a_week_and_totals_for_ever(q: Contract) -> None:
    end(q, "succeeded", 3600)
    runner = q.runner()
    count_all(runner)
    q.db.query("update lockgate.stats_minute set minute = minute - interval '8 days'")
    count_all(runner)
    assert q.db.query("select * from lockgate.stats_minute") == []
    assert q.db.query("select queue, succeeded from lockgate.stats_total_detail") == [("default", 1)]


def test_what_ended_more_than_a_week_ago_is_not_counted(q: Contract) -> None:
    end(q, "succeeded", 8 * 86400)
    end(q, "succeeded", 6 * 86400)
    count_all(q.runner())
    assert counted(q) == {"succeeded": 1}


def test_with_a_queue_goes_what_was_counted_of_it(q: Contract) -> None:
    q.queue("gone")
    number = end(q, "succeeded", queue="gone")
    count_all(q.runner())
    q.service.execute("select lockgate.delete_task(%s)", (number,))
    q.service.execute("select lockgate.delete_queue('gone')")
    assert q.db.query("select queue from lockgate.stats_minute union select queue from lockgate.stats_total") == []


def test_a_series_has_every_step_and_sums_what_is_in_it(q: Contract) -> None:
    q.queue("other")
    begin = minute(q.now()) - timedelta(minutes=20)
    for offset, status, queue in [(0, "succeeded", "default"), (119, "failed", "default"), (240, "cancelled", "other")]:
        finish = begin + timedelta(seconds=offset)
        due = finish - timedelta(seconds=4)
        end(q, status, queue=queue, finish_time=finish, start_time=finish, run_at=due, create_time=due)
    q.db.query(
        "insert into lockgate.stats_minute (queue, minute, queued, scheduled, running)"
        " values ('default', %s, 3, 1, 2), ('other', %s, 4, 0, 1), ('other', %s, 5, 0, 1)",
        *(begin, begin, begin + timedelta(minutes=1)),
    )
    count_all(q.runner())

    def series(queue: str | None) -> list[tuple[Any, ...]]:
        return q.db.query(
            "select time, succeeded, failed, cancelled, queued, scheduled, running, wait_mean, run_mean"
            " from lockgate.series(%s, %s, 120, %s)",
            *(begin, begin + timedelta(minutes=6), queue),
        )

    steps = [begin + timedelta(minutes=n) for n in (0, 2, 4)]
    assert series(None) == [
        (steps[0], 1, 1, 0, 7, 1, 3, 4, 2),
        (steps[1], 0, 0, 0, 0, 0, 0, None, None),
        (steps[2], 0, 0, 1, 0, 0, 0, 4, 2),
    ]
    assert [row[1:7] for row in series("other")] == [(0, 0, 0, 5, 0, 1), (0,) * 6, (0, 0, 1, 0, 0, 0)]


def test_whatever_is_done_in_whatever_order_each_end_is_counted_once(q: Contract) -> None:
    dice = random.Random(8)
    runner, ends = q.runner(), 0
    begin = q.now() - timedelta(hours=1)
    for n in range(200):
        ended = [task.id for task in q.tasks() if task.status == "failed"]
        match dice.choice(["end", "end", "end", "retry", "delete", "purge", "count"]):
            case "end":
                ends += 1
                finish_time = begin + timedelta(seconds=n)
                waiting = [task.id for task in q.tasks() if task.status == "queued"]
                if waiting:
                    q.change(dice.choice(waiting), status="failed", error=BOOM, finish_time=finish_time)
                else:
                    end(q, "failed", finish_time=finish_time)
            case "retry" if ended:
                q.service.execute("select lockgate.retry(%s)", (dice.choice(ended),))
            case "delete" if ended:
                q.service.execute("select lockgate.delete_task(%s)", (dice.choice(ended),))
            case "purge":
                q.service.execute("select lockgate.purge('default', %s)", (dice.randint(1, 3),))
            case "count":
                count(runner, dice.randint(1, 4))
    count_all(runner)
    assert counted(q) == {"failed": ends}
