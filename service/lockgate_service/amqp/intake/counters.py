"""What the intake has done so far: plain numbers, for the log and whoever watches."""

from dataclasses import asdict, dataclass


@dataclass
class Counters:
    """Since the start of the process; `waiting` is of the moment."""

    received: int = 0  # deliveries, again those that came again
    created: int = 0
    duplicate: int = 0  # found by message_id or dedupe_key
    invalid: int = 0  # in the invalid queue
    waiting: int = 0  # ready in the queue, as the broker said last

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
