"""``python -m bench.wakeup``: from a submission to the first line of its handler, in an idle Lockgate."""

import http.client
import json
import random
import threading
import time
from itertools import pairwise

import psycopg

from bench.answer import Answer, number, percentile
from bench.ground import Database, Ground, Program, Scale, until
from bench.script import run, say
from lockgate.postgres import ports

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


def measure(scale: Scale) -> Answer:
    """From a submission to the first line of its handler while everything is idle, over SQL and over HTTP."""
    answer = Answer(
        "2. Idle wake-up",
        "python -m bench.wakeup",
        "One runner waits with two slots and their executors. The bench submits a task, and its handler returns the "
        "machine's monotonic clock as read in its first line. Times are milliseconds from the submission. For "
        "comparison: a bare `pg_notify` from one session to another, a bare commit (a wake-up needs two, one after the "
        "other), and the request itself. The measurements take turns about 30 ms apart, so that each finds everything "
        "asleep.",
    )
    with Ground(scale) as ground, ground.runners(1, ground.main, LOCKGATE_CONCURRENCY="2"):
        answer.ground = ground.said()
        service, port = serve(ground)
        sql = Submitter(ground.main)
        web = Requester(ground.main, service, port)
        bell = Bell(ground.main)
        ground.main.owner.execute("create table beat as select 0 as number")
        times: dict[str, list[float]] = {"SQL": [], "HTTP": [], "request": [], "notify": [], "commit": []}
        until(lambda: sql.wake() and web.wake(), lambda: "the first tasks", 60)
        shots = scale(1000, 60)
        for shot in range(shots):
            if shot % 100 == 0:
                say(f"wake-up {shot} of {shots}")
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
                    times["notify"].append(bell.ring())
                else:
                    times["commit"].append(commit(ground.main))
        bell.close()
    report(answer, times)
    parts(answer, sql.parts)
    return answer


def report(answer: Answer, times: dict[str, list[float]]) -> None:
    table = answer.table(f"of {len(times['SQL']):,} each, ms", "p50", "p95", "p99", "most", "p50, of a bare NOTIFY's")
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
    answer.target("SQL, p50", f"{number(p50)} ms", "< 2 ms", p50 < 2)
    answer.target("SQL, p99", f"{number(p99)} ms", "< 8 ms", p99 < 8)
    more = 1000 * (percentile(times["HTTP"], 50) - percentile(times["SQL"], 50))
    request = 1000 * percentile(times["request"], 50)
    answer.target("HTTP above SQL, p50", f"{number(more)} ms", f"≤ one request, {number(request)} ms", more <= request)


def parts(answer: Answer, shots: list[tuple[float, ...]]) -> None:
    """Where the time of a submission over SQL goes."""
    table = answer.table("where it goes, SQL, ms", "p50", "p95", "of it, p50")
    whole = percentile([sum(shot) for shot in shots], 50)
    for title, seconds in zip(PARTS, zip(*shots, strict=True), strict=True):
        p50, p95 = percentile(seconds, 50), percentile(seconds, 95)
        table.add(title, number(1000 * p50), number(1000 * p95), f"{100 * p50 / whole:.0f} %")


def serve(ground: Ground) -> tuple[Program, int]:
    """A service of its own; it answers when this returns."""
    port = ports.a_free_one()
    service = ground.start("lockgate_service", DATABASE_URL=ground.main.urls["service"], LOCKGATE_PORT=str(port))

    def ready() -> bool:
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            client.request("GET", "/health/ready")
            return client.getresponse().status == 200
        except OSError:
            return False

    until(ready, lambda: f"the service: {service.words()}", 60)
    return service, port


class Submitter:
    """Submits over SQL, and finds out when the handler began."""

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
    """The same over HTTP, on one connection that is kept."""

    def __init__(self, database: Database, service: Program, port: int) -> None:
        self._client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._owner = database.owner
        self._service = service
        self.seconds = 0.0
        """The last request took this long."""

    def wake(self) -> float:
        sent = time.monotonic_ns()
        self._client.request("POST", "/tasks", b'{"kind":"stamp"}', {"content-type": "application/json"})
        response = self._client.getresponse()
        body = response.read()
        self.seconds = (time.monotonic_ns() - sent) / 1e9
        if response.status != 202:
            raise RuntimeError(f"{response.status}: {body!r} {self._service.words()}")
        return (began(self._owner, json.loads(body)["id"]) - sent) / 1e9


def began(owner: "psycopg.Connection[object]", task: int) -> int:
    """Waits until a task of kind `stamp` has succeeded; when its handler began."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(0.01)  # first: to ask meanwhile would be work beside what is measured
        row = owner.execute("select result::text from lockgate.task where id = %s and finish_time is not null", (task,))
        if found := row.fetchone():
            return int(found[0])  # type: ignore[index]
    raise TimeoutError(f"task {task} does not end")


def commit(database: Database) -> float:
    """Seconds of the least statement that has to reach the disk."""
    begin = time.monotonic_ns()
    database.owner.execute("update beat set number = number + 1", prepare=True)
    return (time.monotonic_ns() - begin) / 1e9


class Bell:
    """A bare notification, from one session to another."""

    def __init__(self, database: Database) -> None:
        self._sender = psycopg.connect(database.urls["service"], autocommit=True)
        self._listener = psycopg.connect(database.urls["service"], autocommit=True)
        self._listener.execute("listen bell")
        self._heard: list[int] = []
        self._bell = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def ring(self) -> float:
        """Seconds from sending a notification to its arrival."""
        self._bell.clear()
        sent = time.monotonic_ns()
        self._sender.execute("select pg_notify('bell', '')", prepare=True)
        if not self._bell.wait(30):
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
                self._bell.set()


if __name__ == "__main__":
    run(measure)
