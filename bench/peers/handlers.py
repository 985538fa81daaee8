"""The handlers of Lockgate in the comparison: as in the adapters of its peers, with the same line in a journal."""

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
    """Writes the line."""
    execute(0)


@handler
def nap() -> None:
    """Sleeps for five milliseconds."""
    execute(0.005)
