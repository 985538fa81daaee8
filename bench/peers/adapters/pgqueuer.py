"""pgqueuer, by its documentation.

Entrypoints are async functions. The driver is the one on asyncpg, the first its documentation names, and the event loop
is uvloop's, which its command takes where it is installed. A worker listens and polls every 30 s, its defaults.

cap: `concurrency_limit=2` on the entrypoint, which holds over all workers, with batches of ten, the default.
free: `max_concurrent_tasks=2`, which wants a batch size of one. Ends are written in batches of the same size.
"""

import asyncio
import os
import signal
import sys
import time

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

BATCH = 1000
CAP = os.environ["SHAPE"] == "cap"


async def execute(seconds: float) -> None:
    begin = time.monotonic_ns()
    if seconds:
        await asyncio.sleep(seconds)
    os.write(journal, b"%d %d\n" % (begin, time.monotonic_ns()))


async def driver() -> AsyncpgDriver:
    return AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"]))


async def install() -> None:
    await Queries(await driver()).install()


async def fill(kind: str, count: int) -> None:
    queries = Queries(await driver())
    for begin in range(0, count, BATCH):
        size = min(BATCH, count - begin)
        await queries.enqueue([kind] * size, [None] * size, [0] * size)


async def submit() -> None:
    queries = Queries(await driver())
    while await asyncio.to_thread(sys.stdin.readline):
        sent = time.monotonic_ns()
        await queries.enqueue("noop", None)
        print(sent, flush=True)


async def work() -> None:
    queuer = PgQueuer(await driver())

    @queuer.entrypoint("noop", concurrency_limit=2 if CAP else 0)
    async def noop(_: object) -> None:
        await execute(0)

    @queuer.entrypoint("nap", concurrency_limit=2 if CAP else 0)
    async def nap(_: object) -> None:
        await execute(0.005)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
    if CAP:
        await queuer.run()
    else:
        await queuer.run(batch_size=1, max_concurrent_tasks=2)


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
