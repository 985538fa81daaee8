"""`lockgate queues`: shown, made, changed, purged, deleted."""

import json
import signal
import subprocess
import sys

import pytest

from lockgate.commands import queues
from tests.contract import Contract, Threads, until
from tests.database import Database
from tests.lockgate.ask import ask, line
from tests.lockgate.up import LIMIT, environment, lockgate


def settings(db: Database, name: str) -> dict[str, object]:
    [(found,)] = db.query("select to_jsonb(q) from queue_detail q where queue = %s", name)
    assert isinstance(found, dict)
    return found


def slots(db: Database, name: str) -> object:
    return db.value("select slots from queue_detail where queue = %s", name)


def test_they_are_shown_with_what_waits_in_them(q: Contract, db: Database) -> None:
    q.queue("gpu", slots=1, timeout=7200, paused=True, kinds=["a", "b"])
    q.submit()
    heads, default, gpu = ask(db, "queues").stdout.splitlines()
    assert heads.split()[:5] == ["queue", "slots", "running", "queued", "scheduled"]
    assert default.split()[:5] == ["default", "2", "0", "1", "0"]
    assert " ".join(gpu.split()) == "gpu 1 0 0 0 2 h 3 7 d paused; only a, b"
    rows = [json.loads(row) for row in ask(db, "queues", "--json").stdout.splitlines()]
    assert [(row["queue"], row["queued"], row["grace"]) for row in rows] == [("default", "1", 5), ("gpu", "0", 5)]


def test_a_queue_is_made_with_its_settings(db: Database) -> None:
    said = ask(
        db, "queues", "create", "gpu", "--slots", "1", "--timeout", "2h", "--retention", "none", "--kinds", "a,b"
    )
    assert said.stdout == "queue gpu is made: slots=1 timeout=7200 retention=none kinds=a,b\n"
    made = settings(db, "gpu")
    assert [made[name] for name in ("slots", "timeout", "retention", "kinds")] == [1, 7200, None, ["a", "b"]]
    assert made["backoff_max"] == 300
    assert ask(db, "queues", "create", "plain").stdout == "queue plain is made\n"


def test_a_queue_that_cannot_be_made_is_refused(db: Database) -> None:
    assert line(ask(db, "queues", "create", "default")) == 'there is a queue "default" already'
    assert line(ask(db, "queues", "create", "Big One")).startswith("a queue's name is 1 to 63 of a-z, ")


def test_settings_are_changed_while_the_others_stay(q: Contract, db: Database) -> None:
    q.queue(slots=2, timeout=5, max_attempts=8)
    words = ["slots=4", "timeout=none", "backoff-max=1h", "retention=30d", "kinds=a,b"]
    said = ask(db, "queues", "set", "default", *words)
    assert said.stdout == "queue default: slots=4 timeout=none backoff_max=3600 retention=2592000 kinds=a,b\n"
    now = settings(db, "default")
    assert [now[name] for name in ("slots", "timeout", "backoff_max", "retention", "kinds", "max_attempts")] == [
        4, None, 3600, 2592000, ["a", "b"], 8,
    ]  # fmt: skip
    assert ask(db, "queues", "set", "default", "kinds=none").exit_code == 0
    assert settings(db, "default")["kinds"] is None


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("slots=1001", "slots: 1001 is not in the range 0<=x<=1000"),
        ("slots=none", "slots: 'none' is not a valid integer"),
        ("slot=1", "a queue has no setting 'slot'; did you mean slots?"),
        ("slots", "'slots' is not NAME=VALUE"),
        ("grace=0.5", "grace: 0.5 is not in the range from 1 to 3600 seconds"),
        ("retention=for-ever", "retention: 'for-ever' is no duration"),
        ("paused=perhaps", "paused: 'perhaps' is not a valid boolean"),
    ],
)
def test_a_setting_that_is_none_says_what_it_may_be(db: Database, word: str, said: str) -> None:
    refused = ask(db, "queues", "set", "default", word)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert slots(db, "default") == 2


def test_a_queue_is_paused_and_goes_on(db: Database) -> None:
    assert ask(db, "queues", "pause", "default").stdout == "queue default is paused\n"
    assert settings(db, "default")["paused"] is True
    assert ask(db, "queues", "resume", "default").stdout == "queue default goes on\n"
    assert settings(db, "default")["paused"] is False


@pytest.mark.parametrize("words", ["set nope slots=1", "pause nope", "resume nope", "purge nope", "delete nope"])
def test_a_queue_that_is_not_there_is_said(db: Database, words: str) -> None:
    assert line(ask(db, "queues", *words.split())) == 'there is no queue "nope"'


def test_purging_deletes_what_has_ended_and_nothing_else(q: Contract, db: Database) -> None:
    kept = [q.submit(), q.submit(delay=60)]
    db.query(
        "insert into task (queue, kind, status, max_attempts, payload, finish_time) "
        "select 'default', 'sleep', 'cancelled', 1, '{}', now() from generate_series(1, 1200)"
    )
    assert ask(db, "queues", "purge", "default").stdout == "queue default: 1200 ended tasks deleted\n"
    assert [task.id for task in q.tasks()] == kept
    assert ask(db, "queues", "purge", "default").stdout == "queue default: 0 ended tasks deleted\n"


@pytest.mark.parametrize("status", ["scheduled", "queued", "running", "succeeded"])
def test_a_queue_with_tasks_is_not_deleted_and_keeps_its_slots(q: Contract, db: Database, status: str) -> None:
    q.row(status)
    assert line(ask(db, "queues", "delete", "default")).startswith('queue "default" is not empty: ')
    assert slots(db, "default") == 2


def test_a_queue_is_deleted_once_its_runners_let_go(q: Contract, db: Database, threads: Threads) -> None:
    runner = q.runner()
    assert runner.take(1) == 1
    deleting = threads.start(lockgate, "queues", "delete", "default", DATABASE_URL=db.service)
    until(lambda: slots(db, "default") == 0, "the runners to be told", LIMIT)
    runner.release(1)
    assert deleting.result(LIMIT).stdout == "queue default is deleted\n"
    assert slots(db, "default") is None


def test_a_queue_whose_runners_do_not_let_go_stays_as_it_was(
    q: Contract, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "RELEASE_LIMIT", 0.3)
    q.queue(slots=5)
    assert q.runner().take(1) == 1
    assert line(ask(db, "queues", "delete", "default")).startswith('runners still hold slots of queue "default"')
    assert slots(db, "default") == 5


def test_ctrl_c_while_it_waits_for_runners_gives_the_slots_back(q: Contract, db: Database) -> None:
    q.queue(slots=5)
    assert q.runner().take(1) == 1
    command = [sys.executable, "-m", "lockgate", "queues", "delete", "default"]
    with subprocess.Popen(command, env=environment(DATABASE_URL=db.service), stderr=subprocess.PIPE) as delete:
        try:
            until(lambda: slots(db, "default") == 0, "the runners to be told", LIMIT)
            delete.send_signal(signal.SIGINT)
            assert delete.wait(LIMIT) == 130
        finally:
            delete.kill()
    assert slots(db, "default") == 5
