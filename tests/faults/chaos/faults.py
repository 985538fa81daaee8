"""The faults. Each does its harm, sees to it that it was really done, lasts a while and leaves things mendable.

Each returns what it did, in words; None when there was nothing to do it to, or nothing came of it. What must not follow
from it, and shows only while it lasts, is noted as a breach of the field.
"""

import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg

from lockgate.schema import apply
from tests.faults.chaos.field import CONNECTIONS, STOPPED_IN, Doing, Field
from tests.faults.chaos.record import LATE
from tests.faults.chaos.supervised import FULL, Supervised, group, send, soon, state
from tests.system import AWAY

Fault = Callable[[Field, random.Random], str | None]
FAULTS: dict[str, Fault] = {}

SEEN_WITHIN = 10.0
"""Seconds within which what a handler does wrong has to show; after that something else stands in its way."""

FROZEN = ("T", "t")


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


# -- processes --------------------------------------------------------------------------------------------------------


@fault
def kill_runner(field: Field, dice: random.Random) -> str | None:
    """SIGKILL for a runner; its supervisor lives."""
    with field.borrow(dice) as one:
        runner = one and one.runner()
        if not runner:
            return None
        doing = field.under_way(runner)
        at = time.monotonic()
        if not _kill([runner]):
            return None
        field.executes_again("runner", doing, at)
        return f"{one}, process {runner}{_tasks(doing)}"


@fault
def kill_executor(field: Field, dice: random.Random) -> str | None:
    """SIGKILL for an executor."""
    with field.borrow(dice, Supervised.executors) as one:
        executors = one.executors() if one else []
        if not executors or not _kill([executor := dice.choice(executors)]):
            return None
        return f"{one}, executor {executor}"


@fault
def kill_supervisor(field: Field, dice: random.Random) -> str | None:
    """SIGKILL for a supervisor, which takes its whole tree along; started again a moment later."""
    with field.borrow(dice) as one:
        if not one:
            return None
        tree = one.tree()
        doing = field.under_way(one.runner() or 0)
        at = time.monotonic()
        one.kill()
        gone = soon(lambda: all(state(pid) in ("", "Z") for pid in tree), 5)
        if not gone:
            field.breach("outlived its supervisor", f"{[pid for pid in tree if state(pid) not in ('', 'Z')]} of {tree}")
        field.sleep(dice.uniform(0, 2))
        field.launch(one)
        field.executes_again("tree", doing, at)
        return f"{one}, {len(tree)} processes{_tasks(doing)}"


@fault
def kill_reaper(field: Field, dice: random.Random) -> str | None:
    """SIGKILL for the reaper beside a runner."""
    with field.borrow(dice, Supervised.reapers) as one:
        reapers = one.reapers() if one else []
        return f"{one}, reaper {reapers}" if reapers and _kill(reapers) else None


@fault
def kill_spare(field: Field, dice: random.Random) -> str | None:
    """SIGKILL for the runner that waits to take the place of another."""
    with field.borrow(dice, Supervised.spares) as one:
        spares = one.spares() if one else []
        return f"{one}, spare {spares}" if spares and _kill(spares) else None


@fault
def start_anew(field: Field, dice: random.Random) -> str | None:
    """SIGTERM for a supervisor, as when a new version comes; tasks that take too long are given back."""
    with field.borrow(dice) as one:
        if not one:
            return None
        doing = field.under_way(one.runner() or 0)
        one.ask()
        ended = one.wait(STOPPED_IN)
        if not ended:
            field.breach("a runner does not stop", f"{one}: {one.tree()}")
            one.kill()
        field.launch(one)
        return f"{one}{_tasks(doing)}" if ended else None


@fault
def freeze_briefly(field: Field, dice: random.Random) -> str | None:
    """SIGSTOP for a runner, for less than the grace."""
    with field.borrow(dice) as one:
        runner = one and one.runner()
        seconds = dice.uniform(0.05, 0.4) * field.grace
        return _freeze(field, [runner], seconds, field.under_way(runner)) if runner else None


@fault
def freeze_long(field: Field, dice: random.Random) -> str | None:
    """SIGSTOP for a runner, for longer than the grace: its executors must be dead within it."""
    with field.borrow(dice) as one:
        runner = one and one.runner()
        seconds = dice.uniform(1, 3) * field.grace + LATE
        return _freeze(field, [runner], seconds, field.under_way(runner)) if runner else None


@fault
def stop_group(field: Field, dice: random.Random) -> str | None:
    """Ctrl-Z for the process group of a runner or of a supervisor."""
    with field.borrow(dice) as one:
        runner = one and one.runner()
        if not one or not runner:
            return None
        leader, seconds = dice.choice([runner, one.pid]), dice.uniform(0.5, 2.5) * field.grace
        doing = field.under_way(runner) if leader == runner else []
        return _freeze(field, [pid for pid in one.tree() if group(pid) == leader], seconds, doing)


@fault
def freeze_executor(field: Field, dice: random.Random) -> str | None:
    """SIGSTOP for an executor, while its runner lives on."""
    with field.borrow(dice, Supervised.executors) as one:
        executors = one.executors() if one else []
        if not one or not executors:
            return None
        doing = (
            field.under_way(one.runner() or 0) if len(executors) == 1 else []
        )  # else: whose they are is not known here
        return _freeze(field, [dice.choice(executors)], dice.choice([0.2, 0.4, 2]) * field.grace, doing)


@fault
def freeze_tree(field: Field, dice: random.Random) -> str | None:
    """SIGSTOP for supervisor, runner, executors and reaper together, as a paused container."""
    with field.borrow(dice) as one:
        if not one:
            return None
        return _freeze(field, one.tree(), dice.uniform(0.2, 2.5) * field.grace, field.under_way(one.runner() or 0))


@fault
def block_output(field: Field, dice: random.Random) -> str | None:
    """Nobody reads what a runner says, until its pipe is full and then for a while: its work must go on."""
    with field.borrow(dice) as one:
        runner = one and one.runner()
        if not one or not runner:
            return None
        one.reading.clear()
        try:
            begin = time.monotonic()
            while one.unread() < FULL and time.monotonic() < begin + 3 * field.grace and not field.over.is_set():
                field.send("print_much", payload={"lines": 300})
                field.sleep(0.5)
            if one.unread() < FULL:
                return None
            full, moved, limit = time.monotonic(), 0, 2 * field.grace + SEEN_WITHIN
            hold = max(dice.uniform(0.5, 1.5) * field.grace, 1)
            seen: object = None
            while (moved < 3 or time.monotonic() < full + hold) and one.runner() == runner and not field.over.is_set():
                for (now,) in field.ask(LAST_WORD, runner):
                    moved, seen = moved + (now != seen), now
                if moved < 3 and time.monotonic() > full + limit:
                    field.breach("stood still behind a full pipe", f"{one}, process {runner}, for {limit:.0f} s")
                    break
                field.sleep(0.1)
            began = field.ask(BEGAN, runner, time.monotonic() - full)
            tasks = ", ".join(str(task) for (task,) in began) or "nothing"
            return f"{one}, full for {time.monotonic() - full:.1f} s, began {tasks} meanwhile"
        finally:
            one.reading.set()


LAST_WORD = """
select a.state_change from pg_stat_activity a join lockgate.runner r on r.backend_pid = a.pid
where r.pid = %s order by r.session desc limit 1
"""
BEGAN = """
select id from lockgate.task where runner in (select runner from lockgate.runner where pid = %s)
  and start_time > now() - %s * interval '1 second' order by lease
"""


def _kill(pids: list[int]) -> bool:
    """Whether they were there, and are dead now."""
    return len(send(pids, signal.SIGKILL)) == len(pids) and soon(lambda: all(state(p) in ("", "Z") for p in pids), 5)


def _freeze(field: Field, pids: list[int], seconds: float, doing: list[Doing]) -> str | None:
    """Stops these for a while. What executes in them must be dead once they were stopped for longer than its grace."""
    begin = time.monotonic()
    reached = send(pids, signal.SIGSTOP)
    try:
        if not soon(lambda: any(state(pid) in FROZEN for pid in reached)):
            return None
        frozen = time.monotonic()
        field.sleep(seconds)
        _outlived(field, doing, frozen)
    finally:
        send(reached, signal.SIGCONT)
    return (
        f"{len(reached)} process{'es' if len(reached) > 1 else ''} for {time.monotonic() - begin:.1f} s{_tasks(doing)}"
    )


def _outlived(field: Field, doing: list[Doing], cut_off: float) -> None:
    """Notes what should be dead: cut off, so that nothing was confirmed any more, for longer than its grace."""
    now = time.monotonic()
    for execution, grace in [] if field.over.is_set() else doing:
        late = (execution.end or now) - cut_off - grace
        if late > LATE:
            what = field.record.say(execution)
            field.breach(
                "outlived its deadline", f"by {late:.2f} s: {what}, cut off at {cut_off - field.record.start:.2f}"
            )


def _tasks(doing: list[Doing]) -> str:
    return ", executing " + ", ".join(str(execution.task) for execution, _ in doing) if doing else ""


# -- handlers ---------------------------------------------------------------------------------------------------------


@fault
def segfault(field: Field, dice: random.Random) -> str | None:
    """A handler with a segmentation fault."""
    return _attempt_ends(field, field.send("segfault"), "ExecutorDied")


@fault
def eat_memory(field: Field, dice: random.Random) -> str | None:
    """A handler that occupies more and more memory."""
    return _attempt_ends(field, field.send("eat_memory"), "MemoryExceeded")


@fault
def ignore_timeout(field: Field, dice: random.Random) -> str | None:
    """A handler that takes longer than it may and will not be asked to stop."""
    return _attempt_ends(field, field.send("overrun"), "Timeout")


@fault
def ignore_cancel(field: Field, dice: random.Random) -> str | None:
    """A cancel, by asking or by force, for a handler that will not be asked to stop."""
    task, force = field.send("ignore", payload={"seconds": 3600}), dice.random() < 0.5
    if task is None:
        return None
    executing = soon(partial(_executes, field, task), SEEN_WITHIN)
    field.record.asked.add(task)
    field.insist("select lockgate.cancel(%s, %s)", task, force)
    begin = time.monotonic()
    if executing and soon(lambda: not _executes(field, task), SEEN_WITHIN):
        return f"task {task}, {'force' if force else 'graceful'}, gone after {time.monotonic() - begin:.2f} s"
    return None


@fault
def cancel_tasks(field: Field, dice: random.Random) -> str | None:
    """Cancels of tasks that run and of tasks that wait, by asking and by force."""
    done = []
    for status in ("running", "queued", "scheduled", "running"):
        for (task,) in field.ask("select id from lockgate.task where status::text = %s limit 10", status)[:1]:
            field.record.asked.add(task)
            for (answer,) in field.ask("select lockgate.cancel(%s, %s)::text", task, dice.random() < 0.5):
                done.append(f"{task} ({answer})")
                if answer == "cancelled":
                    field.record.cancelled.add(task)
    return ", ".join(done) or None


def _executes(field: Field, task: int) -> bool:
    return any(execution.task == task for execution in field.witness.current())


def _attempt_ends(field: Field, task: int | None, error: str) -> str | None:
    """Waits until an attempt of the task has ended with that error."""
    if task is not None and soon(lambda: (error,) in field.ask(ERRORS, task, task), SEEN_WITHIN):
        return f"task {task}: {error}"
    return None


ERRORS = """
select error ->> 'type' from lockgate.attempt where task = %s
union select error ->> 'type' from lockgate.task where id = %s
"""


# -- sessions ---------------------------------------------------------------------------------------------------------

SLOT_SESSION = "starts_with(application_name, 'lockgate-runner')"
WAKE_SESSION = "starts_with(application_name, 'lockgate-wake')"


@fault
def end_slot_session(field: Field, dice: random.Random) -> str | None:
    """pg_terminate_backend for a runner's slot session."""
    return _said(_terminate(field, SLOT_SESSION))


@fault
def end_wake_session(field: Field, dice: random.Random) -> str | None:
    """pg_terminate_backend for a runner's wake session."""
    return _said(_terminate(field, WAKE_SESSION))


@fault
def end_sessions_fast(field: Field, dice: random.Random) -> str | None:
    """pg_terminate_backend for any session, twice a second for a while."""
    ended: list[str] = []
    for _ in range(6):
        ended += _terminate(field, "true")
        field.sleep(0.5)
    return _said(ended)


@fault
def kill_backend(field: Field, dice: random.Random) -> str | None:
    """SIGKILL for the server's process behind a slot session: Postgres ends all sessions and recovers."""
    pids = [pid for (pid,) in field.ask(f"select pid from pg_stat_activity where {SLOT_SESSION} order by pid")]
    if not pids or not _kill([pid := dice.choice(pids)]):
        return None
    return f"backend {pid}"


@fault
def freeze_backend(field: Field, dice: random.Random) -> str | None:
    """SIGSTOP for the server's process behind a slot session, for shorter or longer than the grace."""
    found = field.ask(
        "select a.pid from pg_stat_activity a join lockgate.runner r on r.backend_pid = a.pid"
        f" where {SLOT_SESSION} order by r.session"
    )
    if not found:
        return None
    (backend,) = dice.choice(found)
    return _freeze(field, [backend], dice.choice([0.2, 0.5, 2]) * field.grace, [])


@fault
def idle_connections(field: Field, dice: random.Random) -> str | None:
    """300 connections that do nothing."""
    held = _connect(field, 300)
    field.sleep(dice.uniform(0.5, 1.5) * field.grace)
    _close(held)
    return f"{len(held)} connections" if len(held) > 250 else None


@fault
def too_many_clients(field: Field, dice: random.Random) -> str | None:
    """No connection left for anybody, and a slot session ended meanwhile."""
    with suppress(*AWAY), field.owner() as owner:
        held = _connect(field, CONNECTIONS)
        refused = ""
        try:
            field.owner().close()
        except psycopg.Error as error:
            refused = str(error).strip().rpartition("FATAL: ")[2].strip()
        owner.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {SLOT_SESSION} limit 1")
        more = _connect(field, 1)
        field.sleep(dice.uniform(0.5, 1.5) * field.grace)
        _close([*held, *more])
        return f"{len(held)} connections, the next: {refused}" if refused else None
    return None


def _terminate(field: Field, condition: str) -> list[str]:
    """Ends one session that meets the condition; who that was."""
    found = field.ask(
        "with one as materialized (select pid, application_name from pg_stat_activity where pid <> pg_backend_pid()"
        f" and backend_type = 'client backend' and {condition} order by random() limit 1)"
        " select application_name, pid from one where pg_terminate_backend(pid)"
    )
    return [f"{name or 'the feeder'} ({pid})" for name, pid in found]


def _said(ended: list[str]) -> str | None:
    return ", ".join(ended) or None


def _connect(field: Field, number: int) -> list["psycopg.Connection[Any]"]:
    """As many connections as there can be, up to this number."""
    held: list[psycopg.Connection[Any]] = []

    def some(count: int) -> None:
        with suppress(*AWAY):
            while count and not field.over.is_set():
                held.append(field.crowd())
                count -= 1

    with ThreadPoolExecutor(4) as pool:
        for each in range(4):
            pool.submit(some, (number + each) // 4)
    return held


def _close(connections: list["psycopg.Connection[Any]"]) -> None:
    for connection in connections:
        with suppress(psycopg.Error):
            connection.close()


# -- the server -------------------------------------------------------------------------------------------------------


@fault
def restart(field: Field, dice: random.Random) -> str | None:
    """The server stops and starts again within the grace."""
    return _away(field, "fast", dice.uniform(0, 0.3) * field.grace)


@fault
def crash_server(field: Field, dice: random.Random) -> str | None:
    """The server ends at once, and recovers at its start."""
    return _away(field, "immediate", 0)


@fault
def server_away(field: Field, dice: random.Random) -> str | None:
    """The server is away for longer than the grace: every executor must be dead before that is over."""
    return _away(field, dice.choice(["fast", "immediate"]), dice.uniform(1, 2) * field.grace + LATE)


def _away(field: Field, mode: Any, seconds: float) -> str:
    def away() -> str:
        doing = field.under_way()
        field.server.stop(mode)
        stopped = time.monotonic()
        field.sleep(seconds)
        _outlived(field, doing, stopped)
        field.server.start()
        return f"{mode}, back after {time.monotonic() - stopped:.1f} s{_tasks(doing)}"

    return field.on_server(away)


@fault
def disk_full(field: Field, dice: random.Random) -> str | None:
    """Not a byte left for the server: it refuses what needs a new page, and crashes when its log needs one."""

    log, seconds = dice.random() < 0.5, dice.uniform(0.5, 2) * field.grace
    write = (
        "select pg_logical_emit_message(false, 'chaos', repeat('x', 16000000))"
        if log
        else "insert into ballast select repeat('x', 100000) from generate_series(1, 10)"
    )

    def fill() -> str | None:
        came: set[str] = set()
        field.insist("create table if not exists ballast (content text storage external)")
        begin = time.monotonic()
        with field.disk.full() as filler:
            while time.monotonic() < begin + (seconds if came else SEEN_WITHIN) and not field.over.is_set():
                filler.top_up()
                try:
                    with field.owner() as owner:
                        owner.execute(write)
                except psycopg.errors.DiskFull:
                    came.add("refused to write")
                except psycopg.Error:
                    came.add("ended sessions")
                field.sleep(0.05)
        if field.server.ended:
            came.add("ended")
            field.server.restart()
        field.insist("drop table if exists ballast")
        return (
            f"{'log' if log else 'tables'}, for {time.monotonic() - begin:.1f} s; the server {', '.join(sorted(came))}"
            if came
            else None
        )

    return field.on_server(fill)


# -- settings ---------------------------------------------------------------------------------------------------------


@fault
def change_slots(field: Field, dice: random.Random) -> str | None:
    """More slots, or fewer, or none for a moment."""
    before = field.record.slots[-1][1]
    number = dice.choice([n for n in (0, 1, field.slots, field.slots + 1, 2 * field.slots) if n != before])
    field.set_slots(number)
    if number == 0:
        field.sleep(0.5 * field.grace)
        field.set_slots(field.slots)
    return f"from {before} to {number}"


@fault
def change_grace(field: Field, dice: random.Random) -> str | None:
    """Another grace for what is claimed from now on."""
    grace = round(dice.uniform(1, 2) * field.grace, 1)
    field.insist("select lockgate.change_queue('default', jsonb_build_object('grace', %s::float8))", grace)
    return f"{grace} s"


@fault
def pause_queue(field: Field, dice: random.Random) -> str | None:
    """The queue paused for a while."""
    field.insist("select lockgate.pause('default')")
    begin = time.monotonic()
    field.sleep(dice.uniform(0.5, 1) * field.grace)
    field.record.paused.append((begin, time.monotonic()))
    field.insist("select lockgate.resume('default')")
    return f"for {time.monotonic() - begin:.1f} s"


@fault
def apply_schema_again(field: Field, dice: random.Random) -> str | None:
    """The schema applied to a database that has it."""
    with suppress(*AWAY):
        return f"version {apply(field.server.dsn())}"
    return None


def restore(field: Field) -> None:
    """Once the faults are over: puts right what outlasts them."""
    for one in field.supervised:
        send(one.tree(), signal.SIGCONT)
        one.reading.set()
        field.revive(one)
    field.set_slots(field.slots)
    field.insist("select lockgate.resume('default')")
