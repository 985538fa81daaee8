"""``python -m bench.page_hour``: whether the memory of an open page grows within an hour."""

import json
import time
from itertools import count

import click
from playwright.sync_api import Browser, CDPSession, Error, Page

from bench.processes import pss
from bench.report import Report, number
from bench.script import progress, run
from bench.testbed import Database, Scale, Testbed
from bench.wakeup import serve
from tests.page import chromium

SLOTS = 4
NAP = 1.6  # seconds: two or three tasks a second begin, and as many end
WAITING = 20
EVERY = 5  # minutes
NUMBERS = count(1)
MIB = 2**20
GROWTH_MAX = 1.1


def measure(scale: Scale, minutes: int) -> Report:
    """Measures the memory of a page that is open for an hour while tasks run."""
    minutes = scale(minutes, 2)
    report = Report(
        "14. An hour on the page",
        "python -m bench.page_hour",
        f"Chromium keeps the page open for {minutes} minutes while two runners execute tasks of {NAP} s in {SLOTS} "
        f"slots; every fiftieth task fails. That makes {2 * SLOTS / NAP:.0f} changes a second in slots, counters, "
        "chart and table. Once a minute the bench opens a task and closes it again. Memory is measured after a garbage "
        "collection; that of the browser's process for the page is its PSS.",
    )
    with Testbed(scale) as testbed:
        database = testbed.main
        database.owner.execute("select lockgate.set_slots('default', %s)", (SLOTS,))
        _, port = serve(testbed)
        with (
            testbed.runners(2, database, LOCKGATE_CONCURRENCY=str(SLOTS // 2)),
            chromium.started() as browser,
        ):
            report.environment = [*testbed.describe(), f"Browser: Chromium {browser.version}"]
            columns = ("minute", "tasks ended", "JS heap, MiB", "nodes", "listeners", "process, MiB")
            table = report.table(*columns)
            progress(" | ".join(columns))
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            page.locator("#state[data-state=live]").wait_for()
            session = context.new_cdp_session(page)
            session.send("Performance.enable")
            begin = time.monotonic()
            heaps: dict[int, float] = {}
            for minute in range(1, minutes + 1):
                while time.monotonic() < begin + 60 * minute:
                    feed(database)
                    page.wait_for_timeout(1000)
                open_and_close(page)
                if minute % EVERY and minute not in (1, minutes):
                    continue
                ended = database.value("select count(*) from lockgate.task where finish_time is not null")
                heap, nodes, listeners = held(session)
                heaps[minute] = heap
                row = (str(minute), ended, heap / MIB, nodes, listeners, renderer(browser) / MIB)
                table.add(*row)
                progress(" | ".join(number(cell) for cell in row))
        first = heaps.get(EVERY) or next(iter(heaps.values()))
        last = heaps[minutes]
        growth = f"{last / first:.2f}"
        report.target(
            f"heap at minute {minutes}, of that at minute {EVERY}", growth, "≤ 1.1", last <= first * GROWTH_MAX
        )
    return report


def feed(database: Database) -> None:
    """Keeps tasks waiting."""
    waiting = database.value("select count(*) from lockgate.task where status = 'queued'")
    for _ in range(WAITING - waiting):
        kind = "nap" if next(NUMBERS) % 50 else "none"
        call = "select lockgate.submit('default', %s, %s, max_attempts => 1)"
        database.value(call, kind, json.dumps({"seconds": NAP}))


def open_and_close(page: Page) -> None:
    try:
        page.locator("#tasks tbody th a").nth(5).click(timeout=10_000)
        page.locator("#task-title").wait_for(timeout=10_000)
        page.keyboard.press("Escape")
        page.locator("#task").wait_for(state="hidden", timeout=10_000)
    except Error as why:  # the row was gone: the next minute has another
        progress(str(why).splitlines()[0])


def held(session: CDPSession) -> tuple[float, int, int]:
    """Returns bytes of the JavaScript heap, nodes, listeners, after a garbage collection."""
    session.send("HeapProfiler.collectGarbage")
    session.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return float(found["JSHeapUsedSize"]), int(found["Nodes"]), int(found["JSEventListeners"])


def renderer(browser: Browser) -> int:
    """Returns the bytes of the largest renderer process."""
    session = browser.new_browser_cdp_session()
    try:
        found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    finally:
        session.detach()
    return max(pss(int(one["id"])) for one in found if one["type"] == "renderer")


if __name__ == "__main__":
    run(measure, click.option("--minutes", type=click.IntRange(1, 600), default=60, show_default=True))
