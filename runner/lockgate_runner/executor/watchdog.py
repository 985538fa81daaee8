"""Deadlines that the kernel keeps: an executor is killed on time even when every process of ours is frozen.

Times are seconds on CLOCK_BOOTTIME, which also runs while the machine is suspended and is the same for all processes
of a host. On systems without it (macOS) the monotonic clock serves, and a deadline is only kept while the executor's
own thread gets to run.
"""

import ctypes
import os
import signal
import sys
import threading
import time

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
LINUX = sys.platform == "linux"

_PR_SET_PDEATHSIG = 1
_TIMER_ABSTIME = 1
_SIGEV_SIGNAL = 0


def now() -> float:
    """Seconds on the clock of deadlines."""
    return time.clock_gettime(CLOCK)


def margin(grace: float) -> float:
    """Seconds before the end of the grace at which an executor must be dead: the room for the kernel to do it."""
    return max(0.5, grace / 10)


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when the thread that started it ends; exits at once if it has ended already."""
    if LINUX and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(1)


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_char * 48),
    )


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class KernelTimer:
    """One timer of this process that sends it SIGKILL at an absolute time.

    Raises:
        OSError: the kernel refuses the timer. Then the executor must not execute anything.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "timer_create"):  # glibc before 2.34 keeps it in librt
            self._libc = ctypes.CDLL("librt.so.1", use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _SigEvent(signo=signal.SIGKILL, notify=_SIGEV_SIGNAL)
        self._check(self._libc.timer_create(CLOCK, ctypes.byref(event), ctypes.byref(self._timer)), "timer_create")

    def arm(self, until: float) -> None:
        """Kill this process at ``until``, at once if that has passed."""
        seconds, fraction = divmod(max(until, 0.001), 1)
        self._set(_TimeSpec(int(seconds), int(fraction * 1e9)))

    def disarm(self) -> None:
        self._set(_TimeSpec(0, 0))

    def _set(self, value: _TimeSpec) -> None:
        spec = _TimerSpec(_TimeSpec(0, 0), value)
        self._check(self._libc.timer_settime(self._timer, _TIMER_ABSTIME, ctypes.byref(spec), None), "timer_settime")

    @staticmethod
    def _check(result: int, what: str) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), what)


class ThreadTimer:
    """The weaker stand-in where the kernel has no such timer: a thread that kills its own process."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def arm(self, until: float) -> None:
        self.disarm()
        self._timer = threading.Timer(max(0.0, until - now()), os.kill, (os.getpid(), signal.SIGKILL))
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        if self._timer:
            self._timer.cancel()


def timer() -> KernelTimer | ThreadTimer:
    """The best timer this system has, disarmed."""
    return KernelTimer() if LINUX else ThreadTimer()
