"""``python -m bench.wakeup``: from a submission to the first line of its handler, in an idle Lockgate."""

import http.client
import json
import random
import threading
import time
from itertools import pairwise

import psycopg

from bench.report import Report, number, percentile
from bench.script import progress, run
from bench.testbed import Database, Program, Scale, Testbed, until
from lockgate.postgres.server import free_port

PARTS = (
    "sent, until its transaction begins",
    "its transaction and commit, until it is answered",
    "from there until the claim's transaction begins",
    "the claim, its commit, and the way to the executor",
)
BEGAN = """
select (extract(epoch from create_time) * 1000000000)::int8, (extract(epoch from start_time) * 1000000000)::int8
from lockgate.task where id = %s
"""


def measure(scale: Scale) -> Report:
    """Measures from a submission to the first line of its handler in an idle Lockgate, over SQL and HTTP."""
    report = Report(
        "2. Idle wake-up",
        "python -m bench.wakeup",
        "One runner waits with two slots and their executors. The bench submits a task, and its handler returns the "
        "machine's monotonic clock as read in its first line. Times are milliseconds from the submission. For "
        "comparison: a bare `pg_notify` from one session to another, a bare commit (a wake-up needs two, one after the "
        "other), and the request itself. The measurements take turns about 30 ms apart, so that each finds everything "
        "asleep.",
    )
    with Testbed(scale) as testbed, testbed.runners(1, testbed.main, LOCKGATE_CONCURRENCY="2"):
        report.environment = testbed.describe()
        service, port = serve(testbed)
        sql = Submitter(testbed.main)
        web = Requester(testbed.main, service, port)
        notifier = Notifier(testbed.main)
        testbed.main.owner.execute("create table beat as select 0 as number")
        times: dict[str, list[float]] = {"SQL": [], "HTTP": [], "request": [], "notify": [], "commit": []}
        until(lambda: sql.wake() and web.wake(), lambda: "the first tasks", 60)
        shots = scale(1000, 60)
        for shot in range(shots):
            if shot % 100 == 0:
                progress(f"wake-up {shot} of {shots}")
            kinds = ["SQL", "HTTP", "notify", "commit"]
            random.shuffle(kinds)
            for kind in kinds:
                time.sleep(random.uniform(0.02, 0.04))
                if kind == "SQL":
                    times["SQL"].append(sql.wake())
                elif kind == "HTTP":
                    times["HTTP"].append(web.wake())
                    times["request"].append(web.seconds)
                elif kind == "notify":
                    times["notify"].append(notifier.notify())
                else:
                    times["commit"].append(commit(testbed.main))
        notifier.close()
    latencies(report, times)
    parts(report, sql.parts)
    return report


def latencies(report: Report, times: dict[str, list[float]]) -> None:
    table = report.table(f"of {len(times['SQL']):,} each, ms", "p50", "p95", "p99", "most", "p50, of a bare NOTIFY's")
    titles = {
        "SQL": "`select submit(…)` to handler", "HTTP": "`POST /tasks` to handler",
        "request": "`POST /tasks` to its answer", "notify": "`pg_notify` to the listener",
        "commit": "one row changed, and its commit",
    }  # fmt: skip
    for kind, title in titles.items():
        ms = [1000 * seconds for seconds in times[kind]]
        share = percentile(times[kind], 50) / percentile(times["notify"], 50)
        table.add(title, *(number(percentile(ms, p)) for p in (50, 95, 99, 100)), number(share))
    p50, p99 = (1000 * percentile(times["SQL"], percent) for percent in (50, 99))
    report.target("SQL, p50", f"{number(p50)} ms", "< 2 ms", p50 < 2)
    report.target("SQL, p99", f"{number(p99)} ms", "< 8 ms", p99 < 8)
    more = 1000 * (percentile(times["HTTP"], 50) - percentile(times["SQL"], 50))
    request = 1000 * percentile(times["request"], 50)
    report.target("HTTP above SQL, p50", f"{number(more)} ms", f"≤ one request, {number(request)} ms", more <= request)


def parts(report: Report, shots: list[tuple[float, ...]]) -> None:
    """Adds the parts of a wake-up over SQL to the report."""
    table = report.table("where it goes, SQL, ms", "p50", "p95", "of it, p50")
    whole = percentile([sum(shot) for shot in shots], 50)
    for title, seconds in zip(PARTS, zip(*shots, strict=True), strict=True):
        p50, p95 = percentile(seconds, 50), percentile(seconds, 95)
        table.add(title, number(1000 * p50), number(1000 * p95), f"{100 * p50 / whole:.0f} %")


def serve(testbed: Testbed) -> tuple[Program, int]:
    """Starts a service and waits until it is ready."""
    port = free_port()
    service = testbed.start("lockgate_service", DATABASE_URL=testbed.main.urls["service"], LOCKGATE_PORT=str(port))

    def ready() -> bool:
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            client.request("GET", "/health/ready")
            return client.getresponse().status == 200
        except OSError:
            return False

    until(ready, lambda: f"the service: {service.log_tail()}", 60)
    return service, port


class Submitter:
    """Submits over SQL, and reads the start of the handler."""

    def __init__(self, database: Database) -> None:
        self._connection = psycopg.connect(database.urls["service"], autocommit=True)
        self._owner = database.owner
        self.parts: list[tuple[float, ...]] = []
        """Of each submission, its seconds as in PARTS."""

    def wake(self) -> float:
        """Seconds from sending a submission to its handler's first line."""
        sent = time.monotonic_ns()
        row = self._connection.execute("select lockgate.submit('default', 'stamp')", prepare=True).fetchone()
        answered = time.monotonic_ns()
        assert row
        first_line = began(self._owner, row[0])
        zero = time.time_ns() - time.monotonic_ns()
        submit, claim = self._owner.execute(BEGAN, (row[0],)).fetchone() or (0, 0)
        moments = sent, submit - zero, answered, claim - zero, first_line
        self.parts.append(tuple((late - early) / 1e9 for early, late in pairwise(moments)))
        return (first_line - sent) / 1e9


class Requester:
    """The same over HTTP, on one keep-alive connection."""

    def __init__(self, database: Database, service: Program, port: int) -> None:
        self._client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._owner = database.owner
        self._service = service
        self.seconds = 0.0
        """The duration of the last request."""

    def wake(self) -> float:
        sent = time.monotonic_ns()
        self._client.request("POST", "/tasks", b'{"kind":"stamp"}', {"content-type": "application/json"})
        response = self._client.getresponse()
        body = response.read()
        self.seconds = (time.monotonic_ns() - sent) / 1e9
        if response.status != 202:
            raise RuntimeError(f"{response.status}: {body!r} {self._service.log_tail()}")
        return (began(self._owner, json.loads(body)["id"]) - sent) / 1e9


def began(owner: "psycopg.Connection[object]", task: int) -> int:
    """Waits for the end of a task of kind `stamp`; returns the start of its handler."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(0.01)  # first: a query at once would disturb the measurement
        row = owner.execute("select result::text from lockgate.task where id = %s and finish_time is not null", (task,))
        if found := row.fetchone():
            return int(found[0])  # type: ignore[index]
    raise TimeoutError(f"task {task} does not end")


def commit(database: Database) -> float:
    """Returns the seconds of the smallest statement that has to reach the disk."""
    begin = time.monotonic_ns()
    database.owner.execute("update beat set number = number + 1", prepare=True)
    return (time.monotonic_ns() - begin) / 1e9


class Notifier:
    """Sends a bare notification from one session to another."""

    def __init__(self, database: Database) -> None:
        self._sender = psycopg.connect(database.urls["service"], autocommit=True)
        self._listener = psycopg.connect(database.urls["service"], autocommit=True)
        self._listener.execute("listen bench")
        self._heard: list[int] = []
        self._arrived = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def notify(self) -> float:
        """Returns the seconds from sending a notification to its arrival."""
        self._arrived.clear()
        sent = time.monotonic_ns()
        self._sender.execute("select pg_notify('bench', '')", prepare=True)
        if not self._arrived.wait(30):
            raise TimeoutError("a notification does not arrive")
        return (self._heard[-1] - sent) / 1e9

    def close(self) -> None:
        self._closing = True
        self._thread.join(10)
        self._sender.close()
        self._listener.close()

    def _listen(self) -> None:
        while not self._closing:
            for _ in self._listener.notifies(timeout=0.5, stop_after=1):
                self._heard.append(time.monotonic_ns())
                self._arrived.set()


if __name__ == "__main__":
    run(measure)
