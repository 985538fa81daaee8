"""While a synchronous standby is away, commits wait for it. Nothing is said or begun that it lacks; nothing breaks."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from lockgate.schema import create_logins
from lockgate.witness import Witness
from tests.contract import until
from tests.faults.failover.pair import LIMIT, Pair
from tests.runner.process import RunnerProcess
from tests.service.conftest import Process, until_ready

BEFORE = """
set search_path = lockgate;
select submit('default', 'nap'), submit('default', 'nap');
select register('r', 'h', 1, '1', 1, null, '{}'), retake_slot(1, 1), claim(1, 1, 'r', 1);
"""
SAID_TWICE = {
    "a submission is replayed": "select submit('default', 'nap', idempotency_key => 'k')",
    "a submission is deduplicated": "select submit('default', 'nap', dedupe_key => 'k')",
    "a task is cancelled again": "select cancel(2)",
    "an end is recorded already": "select task, lease, runner from task, finish(id, lease, 'r', 1, '1') where id = 1",
}


@pytest.mark.parametrize("statement", SAID_TWICE.values(), ids=SAID_TWICE)
def test_nobody_is_assured_of_a_commit_that_the_standby_lacks_when(pair: Pair, statement: str) -> None:
    with pair.owner() as first, pair.owner() as second, pair.owner() as eye, ThreadPoolExecutor() as threads:
        first.execute(BEFORE)
        second.execute("set search_path = lockgate")
        pair.kill_standby()
        # A wait that is cancelled leaves behind a commit that everybody sees and the standby has not.
        said = threads.submit(first.execute, statement)
        until(lambda: pair.waiting() == 1, "the first to wait")
        eye.execute("select pg_cancel_backend(%s)", (first.info.backend_pid,))
        said.result(LIMIT)

        said = threads.submit(second.execute, statement)
        until(lambda: pair.waiting() == 1 or said.done(), "the second to wait")
        assert not said.done()
        pair.start_standby()
        said.result(LIMIT)


@pytest.fixture
def runner(pair: Pair, witness: Witness) -> Iterator[RunnerProcess]:
    """One with two executors that knows both servers, on queues with a grace of 6 s."""
    logins = create_logins(pair.primary.dsn(), pair.primary.password)
    with pair.owner() as owner:
        owner.execute("update lockgate.queue set grace = 6")
    process = RunnerProcess(pair.dsn(logins["runner"]), witness.address, concurrency=2)
    try:
        process.says("slot taken", LIMIT, count=2)
        process.says("executor started", LIMIT, count=2)
        yield process
    finally:
        process.close()
        print(*process.lines, *process.noise, sep="\n")  # noqa: T201 - pytest shows it when the test failed


def test_handlers_go_on_while_the_standby_is_away(pair: Pair, runner: RunnerProcess, witness: Witness) -> None:
    with pair.owner() as owner:
        submit(owner, 20)
        until(lambda: len(witness.current()) == 1, "the long task to begin", LIMIT)
        pair.kill_standby()
        # Its commit waits, the runner's session with it, and the long task's executor has less than 6 s to live then.
        submit(owner, 0)
        runner.says("session lost", LIMIT, count=3)
        assert len(witness.current()) == 1
        pair.start_standby()
        ended = "select status::text, attempt from lockgate.task order by id"
        until(lambda: owner.execute(ended).fetchall() == [("succeeded", 1)] * 2, "both to end", LIMIT)
    assert len(witness.executions) == 2


def test_a_claim_that_the_standby_lacks_is_not_begun(pair: Pair, runner: RunnerProcess, witness: Witness) -> None:
    with pair.owner() as owner:
        pair.kill_standby()
        submit(owner, 0)
        # The claim is there for everybody to see; its lease would be given again if the standby took over now.
        runner.says("session lost", LIMIT, count=3)
        assert owner.execute("select status::text, lease from lockgate.task").fetchone() == ("running", 1)
        assert witness.executions == []
        pair.start_standby()
        until(lambda: [execution.lease for execution in witness.executions] == [1], "the task to begin", LIMIT)


def submit(owner: "psycopg.Connection[tuple[int]]", seconds: float) -> None:
    """Without waiting for the standby."""
    owner.execute("set synchronous_commit = local")
    owner.execute("select lockgate.submit('default', 'nap', jsonb_build_object('seconds', %s::float))", (seconds,))


def test_the_service_says_503_until_the_standby_has_the_task(pair: Pair) -> None:
    logins = create_logins(pair.primary.dsn(), pair.primary.password)
    service = Process("--port", "0", DATABASE_URL=pair.dsn(logins["service"]))
    try:
        with httpx.Client(base_url=service.url, timeout=20, headers={"Idempotency-Key": "k"}) as client:
            until_ready(client)
            pair.kill_standby()
            for _ in range(2):  # the second finds the task that the first has left behind
                refused = client.post("/tasks", json={"kind": "nap"})
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert client.get("/tasks/1").status_code == 200
            pair.start_standby()
            until(lambda: client.post("/tasks", json={"kind": "nap"}).status_code == 200, "an answer", LIMIT)
            assert [task["id"] for task in client.get("/tasks").json()["items"]] == [1]
    finally:
        service.close()
