"""Handlers for tests of real runner processes."""

import asyncio
import ctypes
import os
import signal
import subprocess
import time
from typing import Any

from lockgate import Cancelled, Discard, Retry, Task, handler, setup


@handler
def nap(seconds: float = 0.05) -> str:
    time.sleep(seconds)
    return "rested"


@handler
async def async_nap(seconds: float = 0.05) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@handler
def echo(payload: Any, task: Task) -> dict[str, Any]:
    return {"payload": payload, "attempt": task.attempt, "lease": task.lease}


@handler
def say(text: str) -> None:
    print(text)  # noqa: T201 - what a handler prints is under test


@handler
def boom(message: str = "boom", times: int = 1000, task: Task | None = None) -> str:
    if task is None or task.attempt <= times:
        raise ValueError(message + "\0\ud800")  # two characters that Postgres takes in no text
    return "survived"


@handler
def again(after: float) -> None:
    raise Retry("not yet", after=after)


@handler
def never(reason: str) -> None:
    raise Discard(reason)


@handler
def segfault() -> None:
    ctypes.string_at(0)


@handler
def leave(code: int = 3) -> None:
    os._exit(code)


@handler
def result(what: str) -> Any:
    return {"nan": float("nan"), "nul": "a\0b", "surrogate": "\ud800", "object": object(), "large": "x" * 2_000_000}[
        what
    ]


@handler
def stubborn(seconds: float = 60) -> str:
    """Will not be asked."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(1)
        except Cancelled:
            continue
    return "finished all the same"


@handler
def hold_interpreter(seconds: float) -> None:
    """Keeps the interpreter's lock all the while, as badly written extensions do."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@handler
def fork_and_die() -> None:
    """Leaves a child behind in the executor's process group, with all its pipes, and is gone."""
    if os.fork() == 0:
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)


@handler
def fork_away(seconds: float) -> int:
    """Leaves a child behind that is out of its process group, with all that an executor holds; its process id."""
    if (child := os.fork()) == 0:
        os.setsid()
        time.sleep(seconds)
        os._exit(0)
    return child


@handler
def count_to(total: int, pause: float, task: Task) -> int:
    for done in range(1, total + 1):
        task.progress({"done": done, "total": total})
        time.sleep(pause)
    return total


@handler
def print_much(megabytes: int) -> str:
    line = "x" * 1023
    for _ in range(megabytes * 1024):
        print(line)  # noqa: T201
    print("the end")  # noqa: T201
    return "printed"


@handler
def eat(megabytes: int) -> int:
    eaten = bytearray(megabytes * 1024 * 1024)
    for page in range(0, len(eaten), 4096):
        eaten[page] = 1
    time.sleep(60)
    return len(eaten)


LOADED: list[int] = []


@setup
def load() -> None:
    LOADED.append(os.getpid())


@handler
def loaded() -> list[int]:
    return [*LOADED, os.getpid()]


@handler
def close_everything() -> None:
    """Closes every descriptor of its process, the pipes to its runner among them, and lives on."""
    os.closerange(0, 256)
    time.sleep(60)


@handler
def start_child(seconds: float) -> None:
    """Starts another program, which knows nothing of executors, and waits for it."""
    subprocess.run(["sleep", str(seconds)], check=True)  # noqa: S607


class Odd:
    """A type that has no JSON Schema."""


@handler
def odd(value: Odd | None = None) -> None:
    pass
