"""The handlers of the measurements."""

import time
from typing import Any

from lockgate import handler


@handler
def noop(payload: dict[str, Any]) -> None:
    """Does nothing."""


@handler
def nap(seconds: float) -> None:
    """Sleeps."""
    time.sleep(seconds)


@handler
def stamp() -> int:
    """Returns its start: nanoseconds of the monotonic clock, which all processes of a machine share."""
    return time.monotonic_ns()
