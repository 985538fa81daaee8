"""``python -m bench.waiting``: the cost of clients that wait for tasks, and the time of a shutdown with them."""

import asyncio
import os
import re
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from bench import processes
from bench.processes import Meter, pss
from bench.report import Report, Table, middle, number, percentile
from bench.script import progress, run
from bench.testbed import Program, Scale, Testbed, until
from bench.wakeup import serve

MIB = 1024 * 1024
TERM_SECONDS = 3.0
STREAM = "GET /tasks/{}/events HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
POLL = "GET /tasks/{} HTTP/1.1\r\nHost: here\r\nPrefer: wait=60\r\nConnection: close\r\n\r\n"
LIMIT = 60.0


@dataclass
class Waiter:
    """A client that waits for a task on its own connection, and reads the answer to its end."""

    request: str
    is_stream: bool
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the first data: of a stream at once, of a poll at its end."""
    heard: float = 0.0
    """When the latest data arrived: that of the task's end, if it has ended."""
    is_whole: bool = False
    """Whether the answer is complete."""

    async def wait(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MIB)
        writer.write(self.request.encode())
        with suppress(ConnectionError):
            while line := await reader.readline():
                if line.startswith((b"event: ", b"{")):
                    self.begun.set()
                    self.heard = time.monotonic()
                elif line == b"0\r\n":
                    self.is_whole = True
        self.is_whole |= self.heard > 0 and not self.is_stream
        writer.close()


class End(NamedTuple):
    """The end of a service: seconds from TERM until its exit, seconds of CPU, clients without a complete answer."""

    seconds: float
    cpu: float
    cut_off: float


def measure(scale: Scale) -> Report:
    """Measures a service with a thousand event streams and a thousand requests with `Prefer: wait`."""
    tasks = scale(1000, 100)
    report = Report(
        "11. Waiting",
        "python -m bench.waiting",
        f"{tasks:,} tasks wait, and one service answers. A client opens `GET /tasks/N/events` for each task, then also "
        "`GET /tasks/N` with `Prefer: wait=60`. CPU is that of the service and of all of Postgres, in milliseconds a "
        "second, while nothing happens. Then one statement ends all tasks; the delay runs from its commit until each "
        "client has heard of it. At the end, with as many clients again, the service gets a TERM: seconds until the "
        "process has ended, its CPU in this time, and how many clients got neither an answer nor the end of their "
        "stream.",
    )
    with Testbed(scale) as testbed:
        report.environment = testbed.describe()
        service, port = serve(testbed)
        costs = report.table("waiting", "memory, MiB", "CPU service", "CPU Postgres", "connections to the database")
        told = report.table("all end at once", "told after, p50 s", "the last, s")
        asyncio.run(waited(scale, testbed, service, port, tasks, costs, told))
        ends = []
        for _ in range(scale(5, 2)):
            progress(f"TERM with {2 * tasks:,} waiting")
            ends.append(asyncio.run(stopped(testbed, *serve(testbed), tasks)))
        terms = report.table("TERM", "seconds", "CPU of it, seconds", "of them cut off")
        terms.add(f"{2 * tasks:,} waiting", *(middle(each) for each in zip(*ends, strict=True)))
        slowest = max(one.seconds for one in ends)
        report.target(
            f"the slowest of {len(ends)} TERMs", f"{slowest:.2f} s", f"< {TERM_SECONDS:g} s", slowest < TERM_SECONDS
        )
    return report


async def waited(
    scale: Scale, testbed: Testbed, service: Program, port: int, tasks: int, costs: Table, told: Table
) -> None:
    """Measures without clients, with streams, with polls too; and the delay of the end."""
    ids = refill(testbed, tasks)
    costs.add("nobody", *await costed(scale, testbed, service))
    streams, reading = await begin(port, [STREAM.format(task) for task in ids])
    await asyncio.gather(*(one.begun.wait() for one in streams))
    costs.add(f"{tasks:,} streams", *await costed(scale, testbed, service))
    polls, polling = await begin(port, [POLL.format(task) for task in ids])
    await held(port, tasks)
    costs.add(f"and {tasks:,} polls", *await costed(scale, testbed, service))
    end = await asyncio.to_thread(end_all, testbed)
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*reading, *polling)
    if not all(one.is_whole for one in (*polls, *streams)):
        raise RuntimeError(f"not all clients got an answer: {service.log_tail()}")
    late = [one.heard - end for one in (*streams, *polls)]
    told.add(f"{2 * tasks:,} waiting", percentile(late, 50), max(late))


async def costed(scale: Scale, testbed: Testbed, service: Program) -> list[str]:
    """Returns memory, CPU and connections while nothing happens."""
    await asyncio.sleep(scale(3, 1))
    meter = Meter({"service": lambda: [service.pid], "Postgres": testbed.backends})
    await asyncio.sleep(scale(15, 2))
    used = {name: number(1000 * seconds / meter.elapsed) for name, seconds in meter.seconds().items()}
    connections = testbed.main.value(
        "select count(*) from pg_stat_activity where application_name = 'lockgate-service'"
    )
    return [number(pss(service.pid) / MIB), used["service"], used["Postgres"], str(connections)]


async def begin(port: int, requests: Sequence[str]) -> tuple[list[Waiter], list[asyncio.Task[None]]]:
    """Starts a client for each request; returns the clients and their tasks."""
    waiters = [Waiter(request, "/events" in request) for request in requests]
    return waiters, [asyncio.create_task(one.wait(port)) for one in waiters]


async def held(port: int, polls: int) -> None:
    """Returns when the service has this many requests in progress."""

    def in_progress() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as response:
            text = response.read().decode()
        return sum(map(float, re.findall(r"^lockgate_http_requests_in_progress\{.*\} (\S+)$", text, re.MULTILINE)))

    await asyncio.to_thread(until, lambda: in_progress() >= polls, lambda: f"{polls} polls", LIMIT, 0.1)


async def stopped(testbed: Testbed, service: Program, port: int, tasks: int) -> "End":
    """Sends TERM while two clients wait for each task."""
    ids = refill(testbed, tasks)
    streams, reading = await begin(port, [STREAM.format(task) for task in ids])
    await asyncio.gather(*(one.begun.wait() for one in streams))
    polls, polling = await begin(port, [POLL.format(task) for task in ids])
    await held(port, tasks)
    before = processes.cpu(service.pid)
    sent = time.monotonic()
    service.process.terminate()
    await asyncio.to_thread(os.waitid, os.P_PID, service.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - sent
    used = processes.cpu(service.pid) - before  # it is not reaped yet
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*reading, *polling)
    if service.process.wait(LIMIT) != 0:
        raise RuntimeError(f"the service ended with {service.process.returncode}: {service.log_tail()}")
    return End(seconds, used, sum(not one.is_whole for one in (*polls, *streams)))


def refill(testbed: Testbed, tasks: int) -> list[int]:
    testbed.main.refill(tasks)
    return [row[0] for row in testbed.main.owner.execute("select id from lockgate.task order by id").fetchall()]


def end_all(testbed: Testbed) -> float:
    """Ends all tasks; returns the time of the commit."""
    testbed.main.owner.execute("update lockgate.task set status = 'cancelled', finish_time = now()")
    return time.monotonic()


if __name__ == "__main__":
    run(measure)
