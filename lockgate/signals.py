"""Signals: Ctrl-C and TERM, of which the first interrupts and a second hurries, and what a child gets in the end."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # of prctl(2)


def with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` for Popen: the kernel sends this signal to the child when the *thread* that started it
    ends, even by SIGKILL. None where there is no such thing (anything but Linux).

    Popen calls it after the change of user, which matters: the kernel forgets the request when a process changes its
    user.
    """
    if sys.platform != "linux":
        return None
    import ctypes  # and prctl here: little is safe between fork and exec

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the request was made
            os._exit(1)

    return ask


@contextlib.contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """In the running event loop, call `stop` at each TERM and Ctrl-C."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class Signals:
    """While in this context, the first signal raises KeyboardInterrupt in the main thread; later ones only count.

    Python drops what is raised in a destructor or in a hook after a fork, here without a word about it: a loop that
    goes on until it is interrupted calls `check` on each round.
    """

    def __init__(self) -> None:
        self.count = 0
        self.number = 0  # of the last signal
        self._before: dict[signal.Signals, Any] = {}
        self._hook_before = sys.unraisablehook

    @property
    def hurry(self) -> bool:
        """Whether somebody asked twice."""
        return self.count > 1

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come, and we are still here."""
        if self.count:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        sys.unraisablehook = self._drop
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._hook_before

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        self.number = number
        if self.count == 1:
            raise KeyboardInterrupt

    def _drop(self, dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            self._hook_before(dropped)
