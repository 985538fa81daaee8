"""What runs in a chaos run: tasks of many lengths, some of which misbehave."""

import ctypes
import os
import time

from lockgate import Cancelled, Task, handler


@handler
def work(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@handler
def compute(seconds: float) -> int:
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rounds += 1
    return rounds


@handler
def crash(task: Task) -> str:
    """Fells its process on the first attempt."""
    if task.attempt == 1:
        ctypes.string_at(0)
    return "done"


@handler
def leave(task: Task) -> str:
    if task.attempt == 1:
        os._exit(7)
    return "done"


@handler
def refuse(seconds: float) -> str:
    """Will not be asked to stop."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(0.1)
        except Cancelled:
            continue
    return "done"


@handler
def swell(megabytes: int, seconds: float) -> str:
    memory = bytearray(megabytes * 1024 * 1024)
    memory[::4096] = b"x" * len(memory[::4096])
    time.sleep(seconds)
    return "done"
