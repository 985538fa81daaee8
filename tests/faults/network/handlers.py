"""Handlers whose results say who they were."""

import time
from typing import Any

from lockgate import Task, handler


@handler
def linger(seconds: float, task: Task) -> dict[str, int]:
    """Takes its time on the first attempt only."""
    time.sleep(seconds if task.attempt == 1 else 0.1)
    return {"attempt": task.attempt, "lease": task.lease}


@handler
def echo(payload: Any, task: Task) -> Any:
    return payload
