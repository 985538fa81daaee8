"""The faults, each a function that injects it, waits as long as it lasts, and leaves things mendable."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from lockgate.schema import apply
from tests.chaos.field import Field, Supervised

Fault = Callable[[Field, random.Random], None]
FAULTS: dict[str, Fault] = {}
KILLS: list[tuple[float, int]] = []
"""When a runner was killed, and the task it was executing: for the time until that executes again."""


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


def _send(pid: int | None, number: signal.Signals) -> bool:
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _one(field: Field, dice: random.Random) -> Supervised:
    return dice.choice(field.supervised)


def _tasks_of(field: Field, runner: int | None) -> list[int]:
    with suppress(psycopg.Error), field.owner() as owner:
        return [
            row[0]
            for row in owner.execute(
                "select t.id from lockgate.task t join lockgate.runner r on r.session = t.session"
                " where t.status = 'running' and r.pid = %s",
                (runner,),
            )
        ]
    return []


@fault
def kill_runner(field: Field, dice: random.Random) -> None:
    runner = _one(field, dice).runner()
    tasks = _tasks_of(field, runner)
    if _send(runner, signal.SIGKILL):
        KILLS.extend((time.monotonic(), task) for task in tasks)


@fault
def kill_hand(field: Field, dice: random.Random) -> None:
    if hands := _one(field, dice).hands():
        _send(dice.choice(hands), signal.SIGKILL)


@fault
def kill_supervisor(field: Field, dice: random.Random) -> None:
    """The whole tree goes; somebody starts it again a moment later."""
    one = _one(field, dice)
    if one.process:
        one.process.kill()
        one.process.wait(5)
        time.sleep(dice.uniform(0, 2))
        one.start()


@fault
def freeze_briefly(field: Field, dice: random.Random) -> None:
    _freeze(_one(field, dice).runner(), dice.uniform(0.05, 0.4) * field.grace)


@fault
def freeze_long(field: Field, dice: random.Random) -> None:
    _freeze(_one(field, dice).runner(), dice.uniform(1, 5) * field.grace)


@fault
def stop_group(field: Field, dice: random.Random) -> None:
    """Ctrl-Z: the runner's process group, of which the hands are no part."""
    runner = _one(field, dice).runner()
    if runner:
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(runner), signal.SIGSTOP)
            time.sleep(dice.uniform(0.5, 3) * field.grace)
            os.killpg(os.getpgid(runner), signal.SIGCONT)


def _freeze(pid: int | None, seconds: float) -> None:
    if _send(pid, signal.SIGSTOP):
        time.sleep(seconds)
        _send(pid, signal.SIGCONT)


def _terminate(field: Field, condition: str) -> None:
    with suppress(psycopg.Error), field.owner() as owner:
        owner.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
            f" and backend_type = 'client backend' and {condition} order by random() limit 1"
        )


@fault
def end_slot_session(field: Field, dice: random.Random) -> None:
    _terminate(field, "application_name like 'lockgate-runner%'")


@fault
def end_wake_session(field: Field, dice: random.Random) -> None:
    _terminate(field, "application_name like 'lockgate-wake%'")


@fault
def end_sessions_fast(field: Field, dice: random.Random) -> None:
    """Any backend, twice a second for a while."""
    for _ in range(6):
        _terminate(field, "true")
        time.sleep(0.5)


@fault
def restart(field: Field, dice: random.Random) -> None:
    field.server.stop("fast")
    time.sleep(dice.uniform(0, 0.3) * field.grace)
    field.server.start()


@fault
def crash_server(field: Field, dice: random.Random) -> None:
    field.server.stop("immediate")
    field.server.start()


@fault
def server_away(field: Field, dice: random.Random) -> None:
    """For longer than the grace: every hand has to be dead before it is over."""
    field.server.stop("fast")
    time.sleep(dice.uniform(1.5, 3) * field.grace)
    field.server.start()


@fault
def too_many_clients(field: Field, dice: random.Random) -> None:
    held: list[psycopg.Connection[Any]] = []
    with suppress(psycopg.Error):
        held.extend(field.owner() for _ in range(300))
    _terminate(field, "application_name like 'lockgate-runner%'")
    time.sleep(dice.uniform(0.5, 1.5) * field.grace)
    for connection in held:
        connection.close()


@fault
def change_slots(field: Field, dice: random.Random) -> None:
    number = dice.choice([1, field.slots, field.slots, field.slots + 1])
    with suppress(psycopg.Error), field.owner() as owner:
        if number >= field.slot_history[-1][1]:
            field.slot_history.append((time.monotonic(), number))  # allowed from before it is so
        owner.execute("select lockgate.set_slots('default', %s)", (number,))
        field.slot_history.append((time.monotonic(), number))


@fault
def change_grace(field: Field, dice: random.Random) -> None:
    with suppress(psycopg.Error), field.owner() as owner:
        owner.execute("update lockgate.queue set grace = %s", (dice.uniform(1, 2) * field.grace,))


@fault
def apply_schema_again(field: Field, dice: random.Random) -> None:
    with suppress(psycopg.Error):
        apply(field.server.dsn())
