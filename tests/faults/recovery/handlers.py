"""What executes while things are broken."""

import time

from lockgate import Task, handler


@handler
def once(task: Task, seconds: float = 600) -> str:
    """Takes its time at the first attempt only: the second is what is waited for."""
    if task.attempt == 1:
        time.sleep(seconds)
    return f"attempt {task.attempt}"


@handler
def brief(least: float, most: float, task: Task) -> int:
    """Between `least` and `most` seconds, the same for the same task."""
    time.sleep(least + (most - least) * (task.id * 0.618034 % 1))
    return task.id
