"""What Lockgate executes beside its peers: the same, and with the same line in a journal, as in their adapters."""

import os
import time

from lockgate import handler

_journal = os.open(f"{os.environ['JOURNAL']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def execute(seconds: float) -> None:
    begin = time.monotonic_ns()
    if seconds:
        time.sleep(seconds)
    os.write(_journal, b"%d %d\n" % (begin, time.monotonic_ns()))


@handler
def noop() -> None:
    """Nothing but the line."""
    execute(0)


@handler
def nap() -> None:
    """Five milliseconds that use no CPU."""
    execute(0.005)
