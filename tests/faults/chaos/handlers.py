"""What runs in a chaos run: tasks of many lengths, some of which misbehave. What succeeds returns its lease."""

import ctypes
import os
import subprocess
import time

from lockgate import Cancelled, Task, handler

MEGABYTE = 1024 * 1024

MISBEHAVES = 2
"""Attempts in which they do, in case something else ends the first."""


@handler
def work(task: Task, seconds: float) -> int:
    time.sleep(seconds)
    return task.lease


@handler
def compute(task: Task, seconds: float) -> int:
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rounds += 1
    return task.lease


@handler
def print_much(task: Task, lines: int) -> int:
    for number in range(lines):
        print(f"line {number} of task {task.id} {'.' * 80}")  # noqa: T201 - it is what this one does
    return task.lease


@handler
def use_child(task: Task, seconds: float) -> int:
    """Has a process of its own do the work: it must not live on when this one is killed."""
    subprocess.run(["/bin/sleep", str(seconds)], check=True)
    return task.lease


@handler
def segfault(task: Task) -> int:
    """Fells its process on the first attempts."""
    if task.attempt <= MISBEHAVES:
        ctypes.string_at(0)
    return task.lease


@handler
def leave(task: Task) -> int:
    """Ends its process on the first attempts."""
    if task.attempt <= MISBEHAVES:
        os._exit(7)
    return task.lease


@handler
def eat_memory(task: Task, megabytes: int) -> int:
    """Takes this much on the first attempts, and then waits to be killed for it."""
    eaten = []
    if task.attempt <= MISBEHAVES:
        for _ in range(megabytes // 25):
            eaten.append(b"x" * (25 * MEGABYTE))
            time.sleep(0.05)
        time.sleep(60)
    return task.lease


@handler
def ignore(task: Task, seconds: float) -> int:
    """Will not be asked to stop."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(0.1)
        except Cancelled:
            continue
    return task.lease


@handler
def fail() -> None:
    """Meant to fail, for good."""
    raise ValueError("as it should")


@handler
def overrun() -> None:
    """Meant to fail: submitted with a timeout, which it ignores."""
    while True:
        try:
            time.sleep(60)
        except Cancelled:
            continue
