"""An executor by itself: what it makes of messages that come through two pipes, in whichever order it reads them."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import msgspec
import pytest
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.protocol import (
    Alive,
    Control,
    End,
    Execute,
    FromExecutor,
    Interrupt,
    Ready,
    decode_from_executor,
    frame,
    received,
)

from tests.contract import until

LIMIT = 30


class LoneExecutor:
    """An executor whose runner is this test."""

    def __init__(self) -> None:
        orders, to_orders = os.pipe()
        self._control_out, to_control = os.pipe()
        self._answers, answers = os.pipe()
        self._pipes = {"orders": to_orders, "control": to_control}
        theirs = [orders, self._control_out, answers]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lockgate_runner.executor.child", *map(str, [*theirs, os.getpid()])],
            pass_fds=theirs,
            start_new_session=True,
        )
        os.close(orders)
        os.close(answers)
        self._received = received(self._answers, decode_from_executor)
        assert isinstance(self.answer(), Ready)

    def order(self, lease: int, seconds: int, live: float = 60) -> None:
        """To sleep so long, and to live so long."""
        payload = msgspec.Raw(msgspec.json.encode({"min": seconds, "max": seconds}))
        order = Execute(1, lease, "default", "sleep", payload, 1, 1, watchdog.now() + live)
        os.write(self._pipes["orders"], frame(order))

    def say(self, message: Control) -> None:
        """Says something beside the orders, and waits until it is read."""
        os.write(self._pipes["control"], frame(message))
        until(lambda: not self._unread(), "the executor to read it", LIMIT)

    def answer(self) -> FromExecutor:
        return next(self._received)

    def _unread(self) -> int:
        return int.from_bytes(fcntl.ioctl(self._control_out, termios.FIONREAD, bytes(4)), sys.byteorder)

    def hang_up(self, pipe: str) -> None:
        os.close(self._pipes.pop(pipe))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in (*self._pipes.values(), self._control_out, self._answers):
            os.close(descriptor)


@pytest.fixture
def executor() -> Iterator[LoneExecutor]:
    it = LoneExecutor()
    yield it
    it.close()


def test_a_handler_does_not_start_when_it_was_asked_to_stop_before(executor: LoneExecutor) -> None:
    """Order and request come through pipes of their own: the later one may be read first."""
    executor.say(Interrupt(7))
    executor.order(7, seconds=60)
    answer = executor.answer()
    assert isinstance(answer, End)
    assert (answer.lease, answer.outcome) == (7, "cancelled")


def test_what_was_said_about_the_last_order_does_not_reach_the_next(executor: LoneExecutor) -> None:
    """Neither a request to stop, which would cost it an attempt, nor a deadline of a longer grace."""
    executor.order(8, seconds=60, live=6)
    executor.say(Interrupt(7))
    executor.say(Alive(7, watchdog.now() + 60))
    assert executor.process.wait(LIMIT) == -signal.SIGKILL


def test_an_idle_executor_dies_with_the_pipe_of_its_orders(executor: LoneExecutor) -> None:
    executor.hang_up("orders")
    assert executor.process.wait(LIMIT) == -signal.SIGKILL


def test_an_executor_that_executes_dies_with_the_other(executor: LoneExecutor) -> None:
    executor.order(7, seconds=60)
    executor.hang_up("control")
    assert executor.process.wait(LIMIT) == -signal.SIGKILL
