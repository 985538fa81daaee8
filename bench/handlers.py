"""What runners execute under measurement."""

import time
from typing import Any

from lockgate import handler


@handler
def noop(payload: dict[str, Any]) -> None:
    """Nothing at all, whatever is asked for."""


@handler
def nap(seconds: float) -> None:
    """A task of a given length that uses no CPU."""
    time.sleep(seconds)


@handler
def stamp() -> int:
    """When it began: nanoseconds of the monotonic clock, which all processes of a machine share."""
    return time.monotonic_ns()
