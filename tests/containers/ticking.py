"""A handler that leaves a mark wherever it gets to execute."""

import time
from pathlib import Path

from lockgate import Task, handler


@handler
def tick(seconds: float, task: Task) -> int:
    """Writes a line every 20 ms into a file of its queue; the first word says under which lease."""
    end = time.monotonic() + seconds
    lines = 0
    with Path("/scratch", task.queue).open("a", buffering=1) as file:
        while time.monotonic() < end:
            file.write(f"{task.lease} {task.id}\n")
            lines += 1
            time.sleep(0.02)
    return lines
