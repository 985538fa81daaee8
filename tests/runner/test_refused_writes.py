"""A database that answers and cannot write, as with a full disk: no result is lost, and nothing is begun."""

import pytest

from lockgate.witness import Witness
from tests.contract import Contract
from tests.runner.conftest import Start
from tests.runner.test_outcomes import ended


@pytest.fixture
def full(q: Contract) -> Contract:
    """Ends of tasks cannot be written."""
    q.db.query(
        """
        create function full_disk() returns trigger language plpgsql as
          $$ begin raise 'No space left on device' using errcode = '53100'; end $$;
        create trigger full_disk before update on lockgate.task for each row
          when (new.status in ('succeeded', 'scheduled')) execute function full_disk();
        """
    )
    return q


def make_room(q: Contract) -> None:
    q.db.query("drop trigger full_disk on lockgate.task")


def test_a_result_that_cannot_be_written_is_kept_and_nothing_new_begins(
    full: Contract, start: Start, witness: Witness
) -> None:
    runner = start(concurrency=2)
    runner.says("slot taken", count=2)
    first = full.submit(kind="nap", payload={"seconds": 0})
    runner.says("outcome not recorded", task=first, sqlstate="53100")
    second = full.submit(kind="nap", payload={"seconds": 0})
    runner.says("outcome not recorded", task=first, count=4)
    assert (full.task(first).status, full.task(second).status) == ("running", "queued")

    make_room(full)

    assert (ended(full, first).result, ended(full, second).result) == ("rested", "rested")
    assert [execution.task for execution in witness.executions] == [first, second]


def test_a_failure_that_cannot_be_written_is_kept_too(full: Contract, start: Start, witness: Witness) -> None:
    full.queue(backoff_base=0.1)
    runner = start()
    runner.says("slot taken")
    task = full.submit(kind="boom", payload={"times": 1})
    runner.says("outcome not recorded", task=task, count=2)
    make_room(full)
    assert ended(full, task).result == "survived"
    assert [(attempt.attempt, attempt.error["type"]) for attempt in full.attempts(task)] == [(1, "ValueError")]
    assert len(witness.executions) == 2
