"""``python -m bench.watching``: the cost and the delay of a thousand streams of /events."""

import asyncio
import json
import time
from dataclasses import dataclass, field

from bench.processes import Meter, pss
from bench.report import Report, number, percentile
from bench.script import progress, run
from bench.testbed import Program, Scale, Testbed, until
from bench.wakeup import serve

VIEWERS = (0, 1, 100, 1000)
SLOTS = 4
NAP = 0.25  # seconds: about sixteen tasks a second begin, and as many end
MIB = 1024 * 1024


@dataclass
class Viewer:
    """A client that reads its stream, and keeps the time of the first event of each task."""

    received: int = 0
    told: dict[int, float] = field(default_factory=dict)
    writer: asyncio.StreamWriter | None = None

    async def watch(self, port: int, seen: asyncio.Event, thorough: bool) -> None:
        """`thorough`: whether it also parses the events."""
        reader, self.writer = await asyncio.open_connection("127.0.0.1", port, limit=16 * MIB)
        self.writer.write(b"GET /events HTTP/1.1\r\nHost: here\r\n\r\n")
        while chunk := await reader.readline() if thorough else await reader.read(MIB):
            self.received += len(chunk)
            if thorough and chunk.startswith(b'data: {"items"'):
                now = time.monotonic()
                for task in json.loads(chunk[6:])["items"]:
                    self.told.setdefault(task["id"], now)
            seen.set()


def measure(scale: Scale) -> Report:
    """Measures a service with a thousand viewers while runners execute tasks."""
    report = Report(
        "8. Watching",
        "python -m bench.watching",
        f"Viewers read `GET /events` of one service while two runners execute tasks of {NAP} s in {SLOTS} slots, about "
        f"{SLOTS / NAP:.0f} a second. Each task changes counters, slots and the list of tasks. CPU is that of the "
        "service and of all of Postgres; the first line has what both use for the same tasks without a viewer. The "
        "delay runs from the commit of a submission until a line with that task has reached a viewer. At the end the "
        "service gets a TERM.",
    )
    with Testbed(scale) as testbed:
        report.environment = testbed.describe()
        testbed.main.owner.execute("select lockgate.set_slots('default', %s)", (SLOTS,))
        service, port = serve(testbed)
        table = report.table(
            "viewers", "CPU service, ms/s", "CPU Postgres, ms/s", "memory of the service, MiB", "of each, KiB",
            "bytes a viewer, KiB/s", "told after, p50 ms", "p99 ms", "connections to the database",
        )  # fmt: skip
        with testbed.runners(2, testbed.main, LOCKGATE_CONCURRENCY=str(SLOTS // 2)):
            alone = 0
            for viewers in VIEWERS:
                progress(f"{viewers} viewers")
                testbed.main.refill(scale(2000, 500), "nap", json.dumps({"seconds": NAP}))
                found = asyncio.run(watched(scale, testbed, service, port, viewers))
                memory, *rest = found
                alone = alone or memory
                each = number((memory - alone) / viewers / 1024) if viewers else ""
                table.add(str(viewers), *rest[:2], number(memory / MIB), each, *rest[2:])
            seconds = asyncio.run(stopped(service, port, VIEWERS[-1]))
        report.target("TERM with a thousand streams", f"{seconds:.2f} s", "< 3 s", seconds < 3)
    return report


async def watched(
    scale: Scale, testbed: Testbed, service: Program, port: int, number_of_viewers: int
) -> tuple[int, str, str, str, str, str, str]:
    """Returns memory of the service; CPU of service and Postgres; bytes a viewer; delays; connections."""
    viewers = [Viewer() for _ in range(number_of_viewers)]
    reading, seen = [], []
    for place, viewer in enumerate(viewers):
        seen.append(asyncio.Event())
        reading.append(asyncio.create_task(viewer.watch(port, seen[-1], thorough=place == 0)))
        if place % 50 == 49:
            await asyncio.gather(*(event.wait() for event in seen))
    await asyncio.gather(*(event.wait() for event in seen))
    await asyncio.sleep(scale(3, 1))
    meter = Meter({"service": lambda: [service.pid], "Postgres": testbed.backends})
    before = sum(viewer.received for viewer in viewers)
    late: list[float] = []
    while meter.elapsed < scale(20, 4):
        task, commit = await asyncio.to_thread(submit, testbed)
        await asyncio.sleep(0.9)
        if viewers and task in viewers[0].told:
            late.append(1000 * (viewers[0].told[task] - commit))
    elapsed = meter.elapsed
    used = {name: number(1000 * seconds / elapsed) for name, seconds in meter.seconds().items()}
    received = sum(viewer.received for viewer in viewers) - before
    memory = pss(service.pid)
    connections = testbed.main.value(
        "select count(*) from pg_stat_activity where usename = %s",
        testbed.main.urls["service"].split("//")[1].split(":")[0],
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


def submit(testbed: Testbed) -> tuple[int, float]:
    return int(testbed.main.value("select lockgate.submit('default', 'nap', '{\"seconds\": 0}')")), time.monotonic()


async def stopped(service: Program, port: int, number_of_viewers: int) -> float:
    """Returns seconds from TERM to the exit of the process, with open streams."""
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
