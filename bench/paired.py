"""``python -m bench.paired --before DIR --after DIR``: the speed of two checkouts, in turns in one run."""

import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import click
import psycopg

from bench import machine
from bench.checkout import Checkout
from bench.load import post
from bench.report import Report, number
from bench.script import FOLDER, INTO, progress, publish
from bench.testbed import Program, until
from lockgate.postgres.server import Server, free_port

LEAST = 0.97
BODY = b'{"kind":"noop","payload":{"to":"somebody@example.org","subject":"Hello"}}'
SUBMIT = "select lockgate.submit('default', 'noop') from generate_series(1, %s)"
UNENDED = "select count(*) from lockgate.task where finish_time is null"
ENDS = "select extract(epoch from finish_time)::float8 from lockgate.task where status = 'succeeded' order by 1"
NO_OPS = (("no-ops on two slots, three runners", 3, 1, 2), ("no-ops on sixteen slots of one runner", 1, 16, 16))
CONNECTIONS = (64, 1)
FIRST, LAST = 0.2, 0.95
"""A rate is taken between these shares of a visit's tasks: before and after, not all slots are busy."""


@dataclass
class Side:
    """One of the two checkouts, with a server of its own; only one side has work at a time."""

    checkout: Checkout
    folder: Path
    programs: list[Program] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o755)
        self.server = Server(self.folder / "data")

    def __enter__(self) -> Self:
        self.server.start()
        self.urls = self.checkout.migrate(self.server)
        self.owner: psycopg.Connection[Any] = psycopg.connect(self.urls["owner"], autocommit=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.owner.close()
        self.server.stop()

    def value(self, query: str, *parameters: object) -> Any:
        row = self.owner.execute(query.encode(), parameters).fetchone()
        return row[0] if row else None

    def clear(self, tasks: int = 0) -> None:
        """No task but so many new ones, which are submitted in one commit."""
        self.owner.execute("truncate lockgate.task cascade")
        self.owner.execute("vacuum (analyze) lockgate.task")
        self.owner.execute("checkpoint")
        if tasks:
            self.owner.execute(SUBMIT, (tasks,))

    def run(self, program: str, **settings: str) -> Program:
        """Starts the ``runner`` or the ``service`` of this checkout."""
        place = self.folder / "handlers"
        place.mkdir(exist_ok=True)
        shutil.copy(Path(__file__).with_name("handlers.py"), place / "handlers_of_bench.py")
        settings |= {
            "DATABASE_URL": self.urls[program], "LOCKGATE_HANDLERS": "handlers_of_bench", "PYTHONPATH": str(place),
        }  # fmt: skip
        log = self.folder / f"{program}-{len(self.programs)}.log"
        self.programs.append(Program(self.checkout.package(program), settings, log, self.checkout.python, place))
        return self.programs[-1]

    def stop(self) -> None:
        """Stops all its programs."""
        for program in self.programs:
            program.terminate()
        for program in self.programs:
            program.stop()
        self.programs.clear()


Sides = Sequence[Side]
Visit = Callable[[Side], float]
"""Measures one side for a second or two: how much it does in a second."""


@contextmanager
def runners(sides: Sides, processes: int, concurrency: int, slots: int) -> Iterator[float]:
    """So many runners of each side, which have executed their first tasks; how many a second, of the slower side."""
    for side in sides:
        side.clear()
        side.value("select lockgate.set_slots('default', %s)", slots)
        for _ in range(processes):
            side.run("runner", LOCKGATE_CONCURRENCY=str(concurrency))
    try:
        for side in sides:
            until(
                lambda side=side: side.value("select count(*) from lockgate.runner") >= processes,  # type: ignore[misc]
                lambda side=side: f"{processes} runners: {side.programs[-1].log_tail()}",  # type: ignore[misc]
                60,
            )
        yield min(no_ops(side, 300) for side in sides)
    finally:
        for side in sides:
            side.stop()


@contextmanager
def services(sides: Sides) -> Iterator[Mapping[str, int]]:
    """A service of each side; the ports of those of both, by the name of their folder."""
    found = {}
    try:
        for side in sides:
            side.clear()
            found[side.folder.name] = free_port()
            side.run("service", LOCKGATE_PORT=str(found[side.folder.name]))
        for side in sides:
            until(
                lambda side=side: accepts(found[side.folder.name]),  # type: ignore[misc]
                lambda side=side: side.programs[-1].log_tail(),  # type: ignore[misc]
                60,
            )
            post(found[side.folder.name], BODY, 8, 0.5)
        yield found
    finally:
        for side in sides:
            side.stop()


def accepts(port: int) -> bool:
    """Whether a task is accepted there."""
    try:
        return bool(post(port, BODY, 1, 0).seconds)
    except (OSError, RuntimeError):
        return False


def no_ops(side: Side, tasks: int) -> float:
    """Tasks a second while all slots are busy."""
    side.clear(tasks)
    until(lambda: side.value(UNENDED) == 0, lambda: f"the ends of tasks: {side.programs[-1].log_tail()}", 120, 0.2)
    ends = [end for (end,) in side.owner.execute(ENDS)]
    if len(ends) != tasks:
        raise RuntimeError(f"{len(ends)} of {tasks} tasks succeeded")
    first, last = int(tasks * FIRST), int(tasks * LAST)
    return float((last - first) / (ends[last] - ends[first]))


def requests(side: Side, port: Mapping[str, int], connections: int, seconds: float) -> float:
    """Answered `POST /tasks` a second, with one request under way on each connection."""
    return post(port[side.folder.name], BODY, connections, seconds).rate


def wake_ups(sides: Sides, shots: int) -> list[float]:
    """The median of seconds from a submission in SQL to the first line of its handler, of each side."""
    connections = [psycopg.connect(side.urls["service"], autocommit=True) for side in sides]
    seconds: list[list[float]] = [[] for _ in sides]
    for shot in range(shots + 3):
        for place in random.sample(range(len(sides)), len(sides)):
            time.sleep(random.uniform(0.02, 0.04))
            sent = time.monotonic_ns()
            row = connections[place].execute("select lockgate.submit('default', 'stamp')", prepare=True).fetchone()
            assert row
            began = result(sides[place], row[0])
            if shot >= 3:
                seconds[place].append((began - sent) / 1e9)
    for connection in connections:
        connection.close()
    return [statistics.median(one) for one in seconds]


def result(side: Side, task: int) -> int:
    """What a task has returned, once it has ended."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(0.01)  # first: a question at once would be work beside what is measured
        if found := side.value(
            "select result::text from lockgate.task where id = %s and finish_time is not null", task
        ):
            return int(found)
    raise TimeoutError(f"task {task} does not end")


def in_turns(sides: Sides, visit: Visit, turned: bool) -> list[float]:
    """The mean of two visits of each side, in the order of before, after, after, before, or turned."""
    order = (1, 0, 0, 1) if turned else (0, 1, 1, 0)
    rates: list[list[float]] = [[] for _ in sides]
    for place in order:
        rates[place].append(visit(sides[place]))
    return [statistics.fmean(rate) for rate in rates]


def one_round(sides: Sides, turned: bool, seconds: float) -> dict[str, list[float]]:
    """Of each measure, how much both sides did in a second: the more, the better."""
    found = {}
    for title, processes, concurrency, slots in NO_OPS:
        with runners(sides, processes, concurrency, slots) as rate:
            tasks = max(300, int(rate * seconds))
            found[f"{title}, tasks/s"] = in_turns(sides, partial(no_ops, tasks=tasks), turned)
    with services(sides) as port:
        for connections in CONNECTIONS:
            visit = partial(requests, port=port, connections=connections, seconds=seconds)
            found[f"`POST /tasks`, connections: {connections}, requests/s"] = in_turns(sides, visit, turned)
    with runners(sides, 1, 2, 2):
        found["wake-ups by SQL, 1/s"] = [1 / one for one in wake_ups(sides, int(30 * seconds))]
    return found


def compare(report: Report, rounds: Sequence[Mapping[str, Sequence[float]]]) -> bool:
    """Fills the report; returns whether no median is below LEAST."""
    table = report.table("measure", "before", "after", "after / before", "quarters of the rounds", "least and most")
    good = True
    for measure in rounds[0]:
        before, after = ([one[measure][place] for one in rounds] for place in (0, 1))
        ratios = [late / early for early, late in zip(before, after, strict=True)]
        quarters = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        median = statistics.median(ratios)
        table.add(
            measure, number(statistics.median(before)), number(statistics.median(after)), f"{median:.3f}",
            f"{quarters[0]:.3f} to {quarters[2]:.3f}", f"{min(ratios):.3f} to {max(ratios):.3f}",
        )  # fmt: skip
        report.target(measure, f"{median:.3f}", f"≥ {LEAST}", median >= LEAST)
        good &= median >= LEAST
    return good


CHECKOUT = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.option("--before", type=CHECKOUT, required=True, help="The checkout to compare with; has a .venv of its own.")
@click.option("--after", type=CHECKOUT, default=machine.ROOT, help="The other. [default: this one]")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True)
@click.option(
    "--seconds", type=float, default=2.0, show_default=True, help="About how long a visit is, of two a round."
)
@FOLDER
@INTO
def main(before: Path, after: Path, rounds: int, seconds: float, folder: Path, into: Path | None) -> None:
    """Compare the speed of two checkouts in turns in one run; exit 1 if a median is below 0.97 of the one before."""
    checkouts = [Checkout(before), Checkout(after)]
    if checkouts[0].versions() != checkouts[1].versions():
        raise click.ClickException(f"other packages: {checkouts[0].versions()} and {checkouts[1].versions()}")
    report = Report(
        "16. Before and after",
        "python -m bench.paired --before DIR --after DIR",
        f"Commit {checkouts[0].commit} against {checkouts[1].commit}, each with its own packages and a server of its "
        f"own with the same settings. In each of {rounds} rounds the programs of both wait beside each other, and get "
        "work in turns: before, after, after, before, and the other way about in the next round. Medians over the "
        "rounds; the ratio is taken within a round.",
        environment=machine.machine(folder),
    )
    found = []
    with tempfile.TemporaryDirectory(prefix="lockgate-paired-", dir=folder) as place, ExitStack() as stack:
        Path(place).chmod(0o755)  # as root, the servers run as another user
        sides = [
            stack.enter_context(Side(checkout, Path(place) / name))
            for checkout, name in zip(checkouts, ("before", "after"), strict=True)
        ]
        report.environment.append(machine.server(sides[0].owner))
        for place_of_round in range(rounds):
            begin = time.monotonic()
            found.append(one_round(sides, place_of_round % 2 == 1, seconds))
            progress(
                f"round {place_of_round + 1} of {rounds}, {time.monotonic() - begin:.0f} s: "
                + ", ".join(f"{measure} {after / before:.3f}" for measure, (before, after) in found[-1].items())
            )
    good = compare(report, found)
    publish(report, into)
    if not good:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
