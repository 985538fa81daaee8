"""``python -m bench.page_load``: time to paint and bytes of the page with a million tasks in the table."""

from statistics import median

from playwright.sync_api import Browser, CDPSession

from bench.reads import fill
from bench.report import Report, number, percentile
from bench.script import progress, run
from bench.testbed import Scale, Testbed
from bench.wakeup import serve
from tests.page import chromium

TIMES = 10
FIRST_PAINT = """
() => new Promise((resolve) => new PerformanceObserver((list) => {
  for (const one of list.getEntriesByName("first-contentful-paint")) resolve(one.startTime);
}).observe({ type: "paint", buffered: true }))
"""
MOST_PAINTED = """
() => new Promise((resolve) => new PerformanceObserver((list) => resolve(list.getEntries().at(-1).startTime))
  .observe({ type: "largest-contentful-paint", buffered: true }))
"""
ANSWERED = "() => performance.getEntriesByType('navigation')[0].responseEnd"
LIMIT = 300.0  # ms
BYTES_MAX = 100_000
LIVE_LIMIT = 120_000.0  # ms
NOTHING = "health/live"


def measure(scale: Scale) -> Report:
    """Measures how soon a browser paints the page, and the bytes of it."""
    tasks = scale(1_000_000, 50_000)
    times = scale(TIMES, 3)
    report = Report(
        "13. The page",
        "python -m bench.page_load",
        f"The table holds {tasks:,} tasks that ended within a week, {tasks // 200:,} that are due and as many "
        f"scheduled. One service and Chromium run on the same machine; Chromium opens each page {times} times. The "
        "first visit finds an empty cache, the second finds all but the page itself. Milliseconds from the click until "
        "the whole answer has arrived, until the first paint (First Contentful Paint), and until the paint of the "
        "largest visible piece (Largest Contentful Paint). Bytes are those on the network: the page, its files, and "
        "the start of its event stream until it says that it is live. `/health/live`, one line that the browser shows "
        "as text, shows what service and browser take for nothing.",
    )
    with Testbed(scale, {"shared_buffers": "1GB", "max_wal_size": "4GB"}) as testbed:
        with chromium.started() as browser:
            report.environment = [*testbed.describe(), f"Browser: Chromium {browser.version}"]
            fill(testbed.main, tasks)
            failed = testbed.main.value("select max(id) from lockgate.task where status = 'failed'")
            _, port = serve(testbed)
            table = report.table(
                "page", "visit", "answered, p50 ms", "painted, p50 ms", "p95 ms", "largest, p50 ms", "bytes",
                "of them the page",
            )  # fmt: skip
            slowest, heaviest = 0.0, 0
            for path in (NOTHING, "", "?status=failed", f"?task={failed}"):
                progress(f"/{path}")
                visits = [visit(browser, f"http://127.0.0.1:{port}/{path}", path != NOTHING) for _ in range(times)]
                for name, seen in zip(("first", "second"), zip(*visits, strict=True), strict=True):
                    answered, painted, largest, whole, page = (list(one) for one in zip(*seen, strict=True))
                    table.add(
                        f"`/{path}`", name, number(median(answered)), number(median(painted)),
                        number(percentile(painted, 95)), number(median(largest)), number(int(median(whole))),
                        number(int(median(page))),
                    )  # fmt: skip
                    if path != NOTHING:
                        slowest, heaviest = max(slowest, median(painted)), max(heaviest, int(median(whole)))
        report.target("painted, the slowest median", f"{number(slowest)} ms", "< 300 ms", slowest < LIMIT)
        report.target("bytes in all, the largest median", f"{heaviest:,}", "< 100,000", heaviest < BYTES_MAX)
    return report


Seen = tuple[float, float, float, int, int]
"""Milliseconds until the answer, the first paint, the largest paint; bytes in all, and of the page."""


def visit(browser: Browser, url: str, is_live: bool) -> tuple[Seen, Seen]:
    """Opens the page twice in a new browser context."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        weight = Weight(context.new_cdp_session(page))

        def once() -> Seen:
            weight.whole = weight.page = 0
            page.goto(url)
            painted = page.evaluate(FIRST_PAINT)
            if is_live:
                page.locator("#state[data-state=live]").wait_for(timeout=LIVE_LIMIT)
            return page.evaluate(ANSWERED), painted, page.evaluate(MOST_PAINTED), weight.whole, weight.page

        first = once()
        page.goto("about:blank")
        return first, once()
    finally:
        context.close()


class Weight:
    """Counts bytes from the network, compressed and with headers."""

    def __init__(self, session: CDPSession) -> None:
        self.whole = 0
        self.page = 0
        self._documents: set[str] = set()
        self._streams: set[str] = set()
        session.on("Network.requestWillBeSent", self._asked)
        session.on("Network.dataReceived", self._received)
        session.on("Network.loadingFinished", self._loaded)
        session.send("Network.enable")

    def _asked(self, event: dict[str, object]) -> None:
        if event["type"] == "Document":
            self._documents.add(str(event["requestId"]))
        elif event["type"] == "EventSource":
            self._streams.add(str(event["requestId"]))

    def _received(self, event: dict[str, int]) -> None:
        if str(event["requestId"]) in self._streams:
            self.whole += event["encodedDataLength"]

    def _loaded(self, event: dict[str, int]) -> None:
        if str(event["requestId"]) not in self._streams:
            self.whole += int(event["encodedDataLength"])
        if str(event["requestId"]) in self._documents:
            self.page += int(event["encodedDataLength"])


if __name__ == "__main__":
    run(measure)
