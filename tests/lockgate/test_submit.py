"""`lockgate submit`: what is stored, what is printed, what is refused; and waiting for the end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests.contract import Contract, Threads, until
from tests.database import Database
from tests.lockgate.ask import Away, ask, line
from tests.lockgate.up import LIMIT, environment, lockgate


def test_it_prints_the_number_and_stores_what_was_said(q: Contract, db: Database) -> None:
    said = ask(
        db, "submit", "thumbnail", '{"path": "cat.jpg"}', "--queue", "default", "--priority", "-7",
        "--max-attempts", "9", "--timeout", "2m", "--tag", "a", "--tag", "b c", "--dedupe-key", "cat",
        "--idempotency-key", "1f",
    )  # fmt: skip
    assert (said.exit_code, said.stderr) == (0, "")
    task = q.task(int(said.stdout))
    assert (task.kind, task.payload, task.status, task.priority) == ("thumbnail", {"path": "cat.jpg"}, "queued", -7)
    assert (task.max_attempts, task.timeout, task.tags) == (9, 120, ["a", "b c"])
    assert (task.dedupe_key, task.idempotency_key) == ("cat", "1f")


def test_what_is_left_out_is_up_to_the_queue(q: Contract, db: Database) -> None:
    q.queue(max_attempts=7, timeout=33)
    task = q.task(int(ask(db, "submit", "sleep").stdout))
    assert (task.payload, task.priority, task.max_attempts, task.timeout, task.tags) == ({}, 0, 7, 33, [])


def test_the_same_submitted_twice_is_one_task(q: Contract, db: Database) -> None:
    first, second = (ask(db, "submit", "sleep", "--idempotency-key", "k").stdout for _ in range(2))
    assert first == second
    assert line(ask(db, "submit", "other", "--idempotency-key", "k")) == (
        f'idempotency key "k" was used for another request, task {first.strip()}'
    )


@pytest.mark.parametrize(("said", "seconds"), [("90", 90), ("1.5m", 90), ("500ms", 0.5), ("2h", 7200), ("7d", 604800)])
def test_a_delay_is_seconds_or_has_a_unit(q: Contract, db: Database, said: str, seconds: float) -> None:
    task = q.task(int(ask(db, "submit", "sleep", "--delay", said).stdout))
    assert task.status == "scheduled"
    assert (task.run_at - task.create_time).total_seconds() == pytest.approx(seconds)


def test_a_time_has_a_zone_or_is_local(q: Contract, db: Database) -> None:
    zoned = q.task(int(ask(db, "submit", "sleep", "--run-at", "2040-01-01T10:00+02:00").stdout))
    assert zoned.run_at == datetime.fromisoformat("2040-01-01T08:00Z")
    local = q.task(int(ask(db, "submit", "sleep", "--run-at", "2040-01-01T10:00").stdout))
    assert local.run_at == datetime(2040, 1, 1, 10).astimezone()


def test_the_payload_comes_from_standard_input_or_a_file_digit_by_digit(
    q: Contract, db: Database, tmp_path: Path
) -> None:
    number = "0.12345678901234567890123"
    (tmp_path / "in.json").write_text(f'{{"n": {number}}}')
    from_file = ask(db, "submit", "sleep", f"@{tmp_path / 'in.json'}").stdout
    from_input = ask(db, "submit", "sleep", "-", text=f'\n{{"n": {number}}}\n').stdout
    for task in (from_file, from_input):
        assert db.value("select payload::text from task where id = %s", int(task)) == f'{{"n": {number}}}'


WRONG_PAYLOADS = {
    '{"max": 1,}': "no JSON at line 1, column 11",
    '{\n "a": 1\n "b": 2}': "no JSON at line 3, column 2: Expecting ',' delimiter:   >>> \"b\": 2}",
    "": "no JSON at line 1, column 1: Expecting value:  >>> the end",
    '{"max": NaN}': "NaN is no JSON",
    "@/no/such/file": "/no/such/file cannot be read: No such file or directory",
    "[" * 100_000: "nested too deep",
}


@pytest.mark.parametrize("payload", WRONG_PAYLOADS, ids=lambda payload: payload[:12])
def test_a_payload_that_is_no_json_says_where(q: Contract, db: Database, payload: str) -> None:
    refused = ask(db, "submit", "sleep", payload)
    assert refused.exit_code == 2
    assert WRONG_PAYLOADS[payload] in refused.stderr
    assert "Traceback" not in refused.stderr
    assert q.tasks() == []


def test_a_payload_that_is_no_text_says_where(db: Database) -> None:
    assert "no UTF-8 at byte 4" in ask(db, "submit", "sleep", "-", text=b'{"a\xff": 1}').stderr


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ("--priority 101", "-100<=x<=100"),
        ("--max-attempts 0", "1<=x<=1000"),
        ("--timeout 0", "from more than 0 to 2592000 seconds"),
        ("--timeout 31d", "from more than 0 to 2592000 seconds"),
        ("--delay 11000d", "from 0 to 315360000 seconds"),
        ("--delay soon", "give seconds, or such as 90s, 15m, 2h, 7d"),
        ("--run-at tomorrow", "give one such as 2030-12-31T18:00"),
        ("--delay 1 --run-at 2040-01-01", "two times; give one"),
        ("--wait-limit 1", "--wait-limit needs --wait"),
    ],
)
def test_what_is_out_of_range_is_said_with_its_limits(db: Database, words: str, limits: str) -> None:
    refused = ask(db, "submit", "sleep", *words.split())
    assert refused.exit_code == 2
    assert limits in refused.stderr


def test_what_the_schema_refuses_is_said_in_one_line(q: Contract, db: Database) -> None:
    q.queue("picky", kinds=["resize"])
    assert line(ask(db, "submit", "sleep", "--queue", "nope")) == 'there is no queue "nope"'
    assert line(ask(db, "submit", "sleep", "--queue", "picky")) == ('queue "picky" does not take tasks of kind "sleep"')
    assert line(ask(db, "submit", "")) == "kind is 1 to 200 characters"
    assert line(ask(db, "submit", "sleep", "-", text=f'"{"x" * 1_100_000}"')) == "payload is larger than 1 MiB"
    assert line(ask(db, "submit", "sleep", '"\\u0000"')).startswith("the database does not take this: ")


# Waiting -------------------------------------------------------------------------------------------------------------


def test_waiting_prints_the_result(q: Contract, db: Database, threads: Threads) -> None:
    waiting = threads.start(lockgate, "submit", "sleep", "--wait", DATABASE_URL=db.service)
    until(q.tasks, "the task to be there", LIMIT)
    runner = q.runner()
    runner.finish(runner.work(), {"slept": 1.5})
    ended = waiting.result(LIMIT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, '{"slept": 1.5}\n', "lockgate: task 1\n")


def test_waiting_says_why_it_failed(q: Contract, db: Database, threads: Threads) -> None:
    waiting = threads.start(lockgate, "submit", "sleep", "--max-attempts", "1", "--wait", DATABASE_URL=db.service)
    until(q.tasks, "the task to be there", LIMIT)
    runner = q.runner()
    runner.fail(runner.work())
    ended = waiting.result(LIMIT)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "lockgate: task 1\nlockgate: task 1 failed: Boom: it went wrong\n"


@pytest.mark.parametrize(("end", "said"), [("cancel", "was cancelled"), ("delete_task", "was deleted")])
def test_waiting_for_a_task_that_somebody_takes_away_fails(q: Contract, db: Database, end: str, said: str) -> None:
    with waiting(db) as submit:
        q.service.execute(f"select lockgate.{end}(1)".encode())
        out, err = submit.communicate(timeout=LIMIT)
        assert (submit.returncode, out, err) == (1, "", f"lockgate: task 1 {said}\n")


def test_waiting_has_a_limit(q: Contract, db: Database) -> None:
    ended = ask(db, "submit", "sleep", "--wait", "--wait-limit", "200ms")
    assert (ended.exit_code, ended.stdout) == (124, "")
    assert ended.stderr == "lockgate: task 1\nlockgate: task 1 has not ended yet and goes on\n"
    assert q.task(1).status == "queued"


@contextmanager
def waiting(db: Database) -> Iterator[subprocess.Popen[str]]:
    """A `lockgate submit --wait` that has submitted."""
    command = [sys.executable, "-m", "lockgate", "submit", "sleep", "--wait"]
    settings = environment(DATABASE_URL=db.service)
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as submit:
        assert submit.stderr
        assert submit.stderr.readline() == "lockgate: task 1\n"
        try:
            yield submit
        finally:
            submit.kill()


def test_ctrl_c_ends_the_waiting_and_not_the_task(q: Contract, db: Database) -> None:
    with waiting(db) as submit:
        submit.send_signal(signal.SIGINT)
        out, err = submit.communicate(timeout=LIMIT)
        assert (submit.returncode, out) == (130, "")
        assert err == "\nlockgate: task 1 goes on; `lockgate cancel 1` stops it\n"
    assert q.task(1).status == "queued"


def test_waiting_outlasts_a_database_that_goes_away(db: Database) -> None:
    with waiting(db) as submit:
        with Away(db):
            assert submit.stderr
            assert submit.stderr.readline().endswith("; trying again\n")
        runner = Contract(db).runner()
        runner.finish(runner.work(), 7)
        assert submit.communicate(timeout=LIMIT)[0] == "7\n"
        assert submit.returncode == 0
