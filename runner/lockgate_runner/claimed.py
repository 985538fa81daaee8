"""A task as `lockgate.claim` hands it to a runner."""

from typing import Literal

import msgspec


class Claimed(msgspec.Struct, frozen=True):
    """Field for field the type lockgate.claimed in schema.sql. Durations in seconds."""

    task: int
    lease: int
    queue: str
    kind: str
    payload: msgspec.Raw
    attempt: int
    max_attempts: int
    timeout: float | None
    grace: float
    cancel_requested: Literal["graceful", "force"] | None
