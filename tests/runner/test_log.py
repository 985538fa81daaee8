"""Whoever reads a runner's log too slowly, or stops reading it, does not hold up its work."""

import fcntl
import json
import os
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from lockgate.log import Writer
from tests.contract import Contract, until
from tests.runner.process import CHECKOUT

PIPE = 4096
"""Bytes of the smallest pipe there is."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE)
    yield out, into
    for descriptor in (out, into):
        with suppress(OSError):  # a test may have closed it
            os.close(descriptor)


def unread(descriptor: int) -> int:
    answer = bytearray(4)
    fcntl.ioctl(descriptor, termios.FIONREAD, answer)
    return int.from_bytes(answer, sys.byteorder)


@contextmanager
def runner_writing_to(descriptor: int, url: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCKGATE_")}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "lockgate_runner"],
        env=environment | {"DATABASE_URL": url, "LOCKGATE_HANDLERS": "tests.runner.handlers"},
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=descriptor,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_runner_works_on_behind_a_full_pipe(q: Contract, pipe: tuple[int, int]) -> None:
    out, into = pipe
    q.queue(grace=4.0)
    with runner_writing_to(into, q.db.runner) as process:
        before = [q.submit(kind="nap") for _ in range(30)]
        until(lambda: unread(out) > PIPE - 512, "a full pipe")
        # Longer than an executor could live if nobody pinged for it.
        long = q.submit(kind="nap", payload={"seconds": 5})
        after = [q.submit(kind="nap") for _ in range(10)]
        until(lambda: not q.tasks("status <> 'succeeded'"), "every task to succeed")
        assert {q.task(task).attempt for task in (*before, long, *after)} == {1}
        assert unread(out) > PIPE - 512
        os.close(into)
        with os.fdopen(os.dup(out), "rb") as reader:
            lines = [json.loads(next(reader))]
            while (lines[-1]["event"], lines[-1].get("task")) != ("finished", after[-1]):
                lines.append(json.loads(next(reader)))
            process.terminate()  # the few lines that it has a second for fit into the pipe
            lines += map(json.loads, reader)
        assert process.wait(20) == 0
    assert [line["task"] for line in lines if line["event"] == "finished"] == [*before, long, *after]
    assert lines[-1]["event"] == "slot released"


def test_a_runner_works_on_when_the_reader_of_its_log_has_gone(q: Contract, pipe: tuple[int, int]) -> None:
    out, into = pipe
    with runner_writing_to(into, q.db.runner) as process:
        os.close(into)
        os.close(out)
        task = q.submit(kind="nap")
        until(lambda: q.task(task).status == "succeeded", "the task to succeed")
        process.terminate()
        assert process.wait(20) == 0


def test_what_does_not_fit_is_left_out_and_counted(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = pipe
    writer = Writer(into, limit=10_000)
    said = SimpleNamespace(warning=lambda event, lines: writer.msg(f"{event}: {lines}"))
    monkeypatch.setattr("lockgate.log.logger", said)
    os.write(into, b"x" * (PIPE - 1) + b"\n")
    for number in range(100):
        writer.msg(f"{number:0999d}")
    with os.fdopen(os.dup(out)) as reader:
        assert [next(reader)[:4] for _ in range(11)] == ["xxxx", *["0000"] * 10]
        writer.flush(10)
        writer.msg("more")
        assert [next(reader), next(reader)] == ["log lines left out: 90\n", "more\n"]
