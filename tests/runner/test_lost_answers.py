"""What was asked has been done, and the answer never came: it is found out, and nothing happens twice."""

import signal

from lockgate.witness import Witness
from tests.contract import Contract, Task, until
from tests.proxy import Proxy
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess
from tests.runner.test_outcomes import ended


def connected_through(proxy: Proxy, start: Start) -> RunnerProcess:
    runner = start(proxy.dsn)
    runner.says("slot taken")
    return runner


def executed_once(q: Contract, witness: Witness, task: int) -> Task:
    row = ended(q, task)
    assert (row.attempt, q.attempts(task)) == (1, [])
    assert [execution.task for execution in witness.executions].count(task) == 1
    return row


def test_a_task_whose_claim_was_never_answered_starts_after_the_reconnect(
    q: Contract, start: Start, witness: Witness
) -> None:
    with Proxy(q.db.runner) as proxy:
        connected_through(proxy, start)
        lost = proxy.lose_answer_to(b"lockgate.claim(")
        task = q.submit(kind="nap", payload={"seconds": 0})
        assert lost.wait(60)
        lease = q.task(task).lease
        assert executed_once(q, witness, task).lease == lease


def test_after_an_unanswered_finish_and_claim_the_end_stands_and_the_next_task_starts(
    q: Contract, start: Start, witness: Witness
) -> None:
    with Proxy(q.db.runner) as proxy:
        runner = connected_through(proxy, start)
        lost = proxy.lose_answer_to(b"lockgate.finish_and_claim(")
        first = q.submit(kind="nap", payload={"seconds": 6})
        runner.says("taken", task=first)
        following = q.submit(kind="nap", payload={"seconds": 0})
        assert lost.wait(60)
        assert executed_once(q, witness, first).result == "rested"
        assert executed_once(q, witness, following).result == "rested"


def test_an_unanswered_failure_counts_once(q: Contract, start: Start, witness: Witness) -> None:
    q.queue(backoff_base=600)
    with Proxy(q.db.runner) as proxy:
        runner = connected_through(proxy, start)
        lost = proxy.lose_answer_to(b"lockgate.fail(")
        task = q.submit(kind="boom")
        assert lost.wait(60)
        runner.says("failed", task=task, status="scheduled")
        assert (q.task(task).status, q.task(task).attempt) == ("scheduled", 1)
        assert [attempt.outcome for attempt in q.attempts(task)] == ["failed"]


def test_the_unanswered_last_finish_of_a_stopping_runner_is_found_to_be_recorded(
    q: Contract, start: Start, witness: Witness
) -> None:
    with Proxy(q.db.runner) as proxy:
        runner = connected_through(proxy, start)
        lost = proxy.lose_answer_to(b"lockgate.finish(")
        task = q.submit(kind="nap", payload={"seconds": 6})
        runner.says("taken", task=task)
        runner.signal(signal.SIGTERM)
        assert lost.wait(60)
        assert runner.process.wait(20) == 0
        assert runner.events("finished", task=task)
        executed_once(q, witness, task)


def test_a_task_given_back_without_an_answer_is_given_back_once(q: Contract, start: Start) -> None:
    with Proxy(q.db.runner) as proxy:
        runner = start(proxy.dsn, shutdown_timeout=0, kill_after=0.5)
        runner.says("slot taken")
        lost = proxy.lose_answer_to(b"lockgate.return_task(")
        task = q.submit(kind="nap", payload={"seconds": 60})
        runner.says("taken", task=task)
        runner.signal(signal.SIGTERM)
        assert lost.wait(60)
        assert runner.process.wait(20) == 0
        assert (q.task(task).status, q.task(task).attempt) == ("queued", 0)
        assert [attempt.outcome for attempt in q.attempts(task)] == ["returned"]


def test_a_slot_kept_without_an_answer_is_kept(q: Contract, start: Start, witness: Witness) -> None:
    with Proxy(q.db.runner) as proxy:
        runner = connected_through(proxy, start)
        task = q.submit(kind="nap", payload={"seconds": 8})
        runner.says("taken", task=task)
        lost = proxy.lose_answer_to(b"lockgate.reconfirm(")
        q.db.query("select pg_terminate_backend(pid) from lockgate.occupied_slots() where pid is not null")
        assert lost.wait(60)
        runner.says("slot kept", task=task)
        executed_once(q, witness, task)


def test_progress_and_output_without_an_answer_cost_nothing(q: Contract, start: Start, witness: Witness) -> None:
    with Proxy(q.db.runner) as proxy:
        runner = connected_through(proxy, start)
        lost = proxy.lose_answer_to(b"lockgate.report_progress(")
        task = q.submit(kind="count_to", payload={"total": 20, "pause": 0.1})
        assert lost.wait(60)
        runner.says("slot kept", task=task)
        assert executed_once(q, witness, task).progress == {"done": 20, "total": 20}
        until(lambda: runner.events("finished", task=task), "it to be logged")
