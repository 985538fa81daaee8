"""What a task went through: its attempts, and what its handler printed."""

from collections.abc import Iterator

import httpx
import pytest

from tests.contract import BOOM, Contract, Session
from tests.database import Database


def printed(runner: Session, task: int, lease: int, text: str) -> None:
    runner.conn.execute("select lockgate.write_output(%s, %s, %s)", (task, lease, text))


def test_attempts_that_did_not_end_the_task_are_listed_oldest_first(http: httpx.Client, q: Contract) -> None:
    number = q.submit()
    runner = q.runner("worker")
    leases = []
    for _ in range(2):
        claimed = runner.work()
        leases.append(claimed.lease)
        runner.fail(claimed, exec_time=0.25, retry_after=0)
    third = runner.work()

    task = http.get(f"/tasks/{number}").json()

    assert task["lease"] == third.lease
    assert [(one["attempt"], one["lease"]) for one in task["attempts"]] == [(1, leases[0]), (2, leases[1])]
    first = task["attempts"][0]
    assert first.pop("start_time") <= first.pop("end_time") <= task["start_time"]
    assert first == {
        "attempt": 1,
        "lease": leases[0],
        "outcome": "failed",
        "runner": "worker",
        "slot": 1,
        "exec_time": 0.25,
        "error": BOOM,
    }


def test_of_very_many_attempts_the_latest_100_are_listed(http: httpx.Client, q: Contract, db: Database) -> None:
    number = q.row()
    db.query(
        "insert into lockgate.attempt (task, attempt, lease, outcome) "
        "select %s, n, n, 'failed' from generate_series(1, 120) n",
        number,
    )

    attempts = http.get(f"/tasks/{number}").json()["attempts"]

    assert [one["attempt"] for one in attempts] == list(range(21, 121))


@pytest.fixture
def talkative(q: Contract) -> Iterator[tuple[Session, int]]:
    """A task in its second attempt, both of which printed something."""
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    printed(runner, number, claimed.lease, "one\n")
    runner.fail(claimed, retry_after=0)
    claimed = runner.work()
    printed(runner, number, claimed.lease, "two: жук 🐞\n")
    yield runner, number
    runner.finish(claimed)


def test_output_is_there_while_the_task_runs_newest_attempt_first(
    http: httpx.Client, q: Contract, talkative: tuple[Session, int]
) -> None:
    number = talkative[1]
    first, second = q.attempts(number)[0].lease, q.task(number).lease

    response = http.get(f"/tasks/{number}/output")

    assert response.status_code == 200
    assert response.json() == {"items": [{"lease": second, "text": "two: жук 🐞\n"}, {"lease": first, "text": "one\n"}]}


def test_output_is_there_after_the_task_has_ended(http: httpx.Client, q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    printed(runner, number, claimed.lease, "done\n")
    runner.finish(claimed)

    assert http.get(f"/tasks/{number}/output").json()["items"] == [{"lease": claimed.lease, "text": "done\n"}]


def test_a_task_that_printed_nothing_has_no_output(http: httpx.Client, q: Contract) -> None:
    response = http.get(f"/tasks/{q.row()}/output")

    assert (response.status_code, response.json()) == (200, {"items": []})


@pytest.mark.parametrize("number", [1, 9223372036854775808])
def test_a_task_that_is_not_there_has_no_output_to_be_found(refusing: httpx.Client, number: int) -> None:
    assert refusing.get(f"/tasks/{number}/output").status_code == 404
