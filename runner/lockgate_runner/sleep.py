"""The handler every runner has: it sleeps, and fails now and then if the payload says so."""

import random
import time
from typing import Annotated

from msgspec import Meta

from lockgate import handler

Seconds = Annotated[int, Meta(ge=0, le=86400)]


@handler
def sleep(min: Seconds = 0, max: Seconds = 10, failure_rate: Annotated[float, Meta(ge=0, le=1)] = 0.0) -> int:  # noqa: A002 - the payload's words
    """Sleeps a whole number of seconds at random from ``min`` to ``max`` and returns it.

    Raises:
        RuntimeError: with probability ``failure_rate``, after the sleep.
        ValueError: ``min`` is greater than ``max``.
    """
    if min > max:
        raise ValueError(f"min ({min}) is greater than max ({max})")
    seconds = random.randint(min, max)  # noqa: S311 - nothing secret about a nap
    time.sleep(seconds)
    if random.random() < failure_rate:  # noqa: S311
        raise RuntimeError(f"failed at random, as asked for by failure_rate {failure_rate}")
    return seconds
