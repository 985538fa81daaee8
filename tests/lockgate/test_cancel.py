"""`lockgate cancel` and `lockgate retry`: a line per task, and an exit code for all."""

from tests.contract import Contract
from tests.database import Database
from tests.lockgate.ask import ask, line


def test_what_waits_is_cancelled_and_what_runs_is_asked(q: Contract, db: Database) -> None:
    running, queued, scheduled = q.submit(), q.submit(), q.submit(delay=60)
    q.runner().work()
    said = ask(db, "cancel", queued, running, scheduled)
    assert said.exit_code == 0
    assert said.stdout == (
        f"task {queued} is cancelled\ntask {running} is running and is asked to stop\ntask {scheduled} is cancelled\n"
    )
    assert q.task(queued).status == q.task(scheduled).status == "cancelled"
    assert q.task(running).cancel_requested == "graceful"


def test_force_kills(q: Contract, db: Database) -> None:
    task = q.submit()
    q.runner().work()
    assert ask(db, "cancel", task, "--force").stdout == f"task {task} is running and is being killed\n"
    assert q.task(task).cancel_requested == "force"


def test_one_that_cannot_be_cancelled_does_not_keep_the_others_from_it(q: Contract, db: Database) -> None:
    ended, waiting = q.row("succeeded"), q.submit()
    said = ask(db, "cancel", ended, 999, waiting)
    assert said.exit_code == 1
    assert said.stderr == f"lockgate: task {ended} has already succeeded\nlockgate: there is no task 999\n"
    assert said.stdout == f"task {waiting} is cancelled\n"


def test_what_ended_without_success_is_retried(q: Contract, db: Database) -> None:
    failed, cancelled = q.row("failed"), q.row("cancelled")
    said = ask(db, "retry", failed, cancelled)
    assert (said.exit_code, said.stdout) == (0, f"task {failed} is queued again\ntask {cancelled} is queued again\n")
    assert q.task(failed).status == q.task(cancelled).status == "queued"


def test_a_retry_that_is_refused_says_why(q: Contract, db: Database) -> None:
    succeeded, failed = q.row("succeeded"), q.row("failed", dedupe_key="k")
    q.submit(dedupe_key="k")
    assert line(ask(db, "retry", succeeded)) == (
        f"task {succeeded} is succeeded: only a failed or cancelled task can be retried"
    )
    assert line(ask(db, "retry", failed)) == 'another unfinished task of queue "default" has dedupe key "k"'
    assert line(ask(db, "retry", 999)) == "there is no task 999"


def test_a_number_that_no_task_can_have_is_refused_before_the_database_is_asked(db: Database) -> None:
    for word in ("0", "x", str(2**63)):
        assert ask("host=nowhere.invalid", "cancel", word).exit_code == 2
