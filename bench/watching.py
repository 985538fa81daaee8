"""``python -m bench.watching``: what a thousand open streams of /events cost, and how soon they are told."""

import asyncio
import json
import time
from dataclasses import dataclass, field

from bench.answer import Answer, number, percentile
from bench.ground import Ground, Program, Scale, until
from bench.processes import Meter, pss
from bench.script import run, say
from bench.wakeup import serve

VIEWERS = (0, 1, 100, 1000)
SLOTS = 4
NAP = 0.25  # seconds: about sixteen tasks a second begin, and as many end
MIB = 1024 * 1024


@dataclass
class Viewer:
    """One who reads all it is sent, and notes when it was first told of each task."""

    received: int = 0
    told: dict[int, float] = field(default_factory=dict)
    writer: asyncio.StreamWriter | None = None

    async def watch(self, port: int, seen: asyncio.Event, thorough: bool) -> None:
        """`thorough`: whether it also looks into what it is told."""
        reader, self.writer = await asyncio.open_connection("127.0.0.1", port, limit=16 * MIB)
        self.writer.write(b"GET /events HTTP/1.1\r\nHost: here\r\n\r\n")
        while chunk := await reader.readline() if thorough else await reader.read(MIB):
            self.received += len(chunk)
            if thorough and chunk.startswith(b'data: {"items"'):
                now = time.monotonic()
                for task in json.loads(chunk[6:])["items"]:
                    self.told.setdefault(task["id"], now)
            seen.set()


def measure(scale: Scale) -> Answer:
    """What it costs a service that a thousand watch, while tasks are executed."""
    answer = Answer(
        "8. Watching",
        "python -m bench.watching",
        f"Viewers read `GET /events` of one service while two runners execute tasks of {NAP} s in {SLOTS} slots, about "
        f"{SLOTS / NAP:.0f} a second. Each task changes counters, slots and the list of tasks. CPU is that of the "
        "service and of all of Postgres; the first line has what both use for the same tasks without a viewer. The "
        "delay runs from the commit of a submission until a line with that task has reached a viewer. At the end the "
        "service gets a TERM.",
    )
    with Ground(scale) as ground:
        answer.ground = ground.said()
        ground.main.owner.execute("select lockgate.set_slots('default', %s)", (SLOTS,))
        service, port = serve(ground)
        table = answer.table(
            "viewers", "CPU service, ms/s", "CPU Postgres, ms/s", "memory of the service, MiB", "of each, KiB",
            "bytes a viewer, KiB/s", "told after, p50 ms", "p99 ms", "connections to the database",
        )  # fmt: skip
        with ground.runners(2, ground.main, LOCKGATE_CONCURRENCY=str(SLOTS // 2)):
            alone = 0
            for viewers in VIEWERS:
                say(f"{viewers} viewers")
                ground.main.refill(scale(2000, 500), "nap", json.dumps({"seconds": NAP}))
                found = asyncio.run(watched(scale, ground, service, port, viewers))
                memory, *rest = found
                alone = alone or memory
                each = number((memory - alone) / viewers / 1024) if viewers else ""
                table.add(str(viewers), *rest[:2], number(memory / MIB), each, *rest[2:])
            seconds = asyncio.run(stopped(service, port, VIEWERS[-1]))
        answer.target("TERM with a thousand streams", f"{seconds:.2f} s", "< 3 s", seconds < 3)
    return answer


async def watched(
    scale: Scale, ground: Ground, service: Program, port: int, number_of_viewers: int
) -> tuple[int, str, str, str, str, str, str]:
    """Memory of the service; CPU of service and Postgres; bytes a viewer; told after; connections."""
    viewers = [Viewer() for _ in range(number_of_viewers)]
    reading, seen = [], []
    for place, viewer in enumerate(viewers):
        seen.append(asyncio.Event())
        reading.append(asyncio.create_task(viewer.watch(port, seen[-1], thorough=place == 0)))
        if place % 50 == 49:
            await asyncio.gather(*(event.wait() for event in seen))
    await asyncio.gather(*(event.wait() for event in seen))
    await asyncio.sleep(scale(3, 1))
    meter = Meter({"service": lambda: [service.pid], "Postgres": ground.backends})
    before = sum(viewer.received for viewer in viewers)
    late: list[float] = []
    while meter.elapsed < scale(20, 4):
        task, commit = await asyncio.to_thread(submit, ground)
        await asyncio.sleep(0.9)
        if viewers and task in viewers[0].told:
            late.append(1000 * (viewers[0].told[task] - commit))
    elapsed = meter.elapsed
    used = {name: number(1000 * seconds / elapsed) for name, seconds in meter.seconds().items()}
    received = sum(viewer.received for viewer in viewers) - before
    memory = pss(service.pid)
    connections = ground.main.value(
        "select count(*) from pg_stat_activity where usename = %s",
        ground.main.urls["service"].split("//")[1].split(":")[0],
    )
    for viewer in viewers:
        if viewer.writer:
            viewer.writer.close()
    for task_of_viewer in reading:
        task_of_viewer.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    return (
        memory, used["service"], used["Postgres"],
        number(received / number_of_viewers / elapsed / 1024) if viewers else "",
        number(percentile(late, 50)) if late else "", number(percentile(late, 99)) if late else "", str(connections),
    )  # fmt: skip


def submit(ground: Ground) -> tuple[int, float]:
    return int(ground.main.value("select lockgate.submit('default', 'nap', '{\"seconds\": 0}')")), time.monotonic()


async def stopped(service: Program, port: int, number_of_viewers: int) -> float:
    """Seconds from TERM to the end of the process, with so many streams open."""
    viewers = [Viewer() for _ in range(number_of_viewers)]
    seen = [asyncio.Event() for _ in viewers]
    reading = [
        asyncio.create_task(viewer.watch(port, event, thorough=False))
        for viewer, event in zip(viewers, seen, strict=True)
    ]
    await asyncio.gather(*(event.wait() for event in seen))
    begin = time.monotonic()
    service.process.terminate()
    await asyncio.gather(*reading, return_exceptions=True)
    await asyncio.to_thread(until, lambda: service.process.poll() is not None, lambda: "its end", 30)
    return time.monotonic() - begin


if __name__ == "__main__":
    run(measure)
