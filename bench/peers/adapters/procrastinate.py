"""procrastinate, by its documentation.

Tasks are async functions, in a worker at concurrency two that listens and polls every 5 s beside that, its defaults.
Finished jobs stay in the table, as in Lockgate. The connector is the one on psycopg's pool.

It claims one job at a time: there is no batch to choose. `lock` lets one job of a name run at a time, and nothing lets
two: a cap of two over several workers does not exist, so none is measured.
"""

import asyncio
import os
import sys
import time

from procrastinate import App, PsycopgConnector

BATCH = 1000

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))


async def execute(seconds: float) -> None:
    begin = time.monotonic_ns()
    if seconds:
        await asyncio.sleep(seconds)
    os.write(journal, b"%d %d\n" % (begin, time.monotonic_ns()))


@app.task(name="noop")
async def noop() -> None:
    await execute(0)


@app.task(name="nap")
async def nap() -> None:
    await execute(0.005)


async def install() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def fill(kind: str, count: int) -> None:
    async with app.open_async():
        for begin in range(0, count, BATCH):
            await app.tasks[kind].batch_defer_async(*[{}] * min(BATCH, count - begin))


async def submit() -> None:
    async with app.open_async():
        while await asyncio.to_thread(sys.stdin.readline):
            sent = time.monotonic_ns()
            await noop.defer_async()
            print(sent, flush=True)


async def work() -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=2)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "install":
        asyncio.run(install())
    elif command == "fill":
        asyncio.run(fill(arguments[0], int(arguments[1])))
    elif command == "submit":
        asyncio.run(submit())
    else:
        journal = os.open(f"{os.environ['JOURNAL']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        asyncio.run(work())
