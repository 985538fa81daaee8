"""oban for Python (oban-py), by its documentation.

Workers are classes, in one queue with a limit of two. Everything else is as it comes: notifications of inserts wake
it, a stager looks every second, as many jobs are fetched as there is room for, ends are written together before the
next fetch, completed jobs stay for a day. The event loop is uvloop's, as under its own command.

Its limit holds for one node; the global one belongs to Oban Pro, which no public registry has. So no cap is measured.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop
from oban import Oban, worker
from oban.schema import install as install_schema

BATCH = 1000


async def execute(seconds: float) -> None:
    begin = time.monotonic_ns()
    if seconds:
        await asyncio.sleep(seconds)
    os.write(journal, b"%d %d\n" % (begin, time.monotonic_ns()))


@worker(queue="default")
class Noop:
    async def process(self, _: object) -> None:
        await execute(0)


@worker(queue="default")
class Nap:
    async def process(self, _: object) -> None:
        await execute(0.005)


@asynccontextmanager
async def oban(queues: dict[str, int]) -> AsyncIterator[Oban]:
    pool = await Oban.create_pool(os.environ["DATABASE_URL"])
    try:
        async with Oban(pool=pool, queues=queues) as instance:
            yield instance
    finally:
        await pool.close()


async def install() -> None:
    pool = await Oban.create_pool(os.environ["DATABASE_URL"])
    await install_schema(pool)
    await pool.close()


async def fill(kind: str, count: int) -> None:
    chosen = {"noop": Noop, "nap": Nap}[kind]
    async with oban({}) as instance:
        for begin in range(0, count, BATCH):
            await instance.enqueue_many(chosen.new() for _ in range(min(BATCH, count - begin)))


async def submit() -> None:
    async with oban({}):
        while await asyncio.to_thread(sys.stdin.readline):
            sent = time.monotonic_ns()
            await Noop.enqueue()
            print(sent, flush=True)


async def work() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with oban({"default": 2}):
        await stop.wait()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "install":
        uvloop.run(install())
    elif command == "fill":
        uvloop.run(fill(arguments[0], int(arguments[1])))
    elif command == "submit":
        uvloop.run(submit())
    else:
        journal = os.open(f"{os.environ['JOURNAL']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        uvloop.run(work())
