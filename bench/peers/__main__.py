"""``python -m bench.peers``: Lockgate beside other task queues on Postgres, on one server, in one run."""

import random
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
import psycopg

from bench.peers.environment import NotInstalledError
from bench.peers.journal import Journal
from bench.peers.lockgate import Lockgate
from bench.peers.peer import PEERS, Peer
from bench.peers.subject import Kind, Shape, Subject
from bench.report import Report, middle, number, percentile, ratios
from bench.script import progress, run
from bench.testbed import Scale, Testbed, until
from bench.throughput import of_pgbench
from bench.wakeup import Notifier

PER_SECOND: dict[Shape, int] = {"free": 3000, "cap": 3000, "batches": 12000}
"""Waiting tasks for each second of a round."""

FIRST = 50
"""Executions before a measurement."""

WARM = 0.5
"""Seconds between these and the measurement."""

PGBENCH = "pgbench, finish and claim, two connections"
START_LIMIT = 60.0
DEPTH_LIMIT = 10.0
MS_OF: dict[Kind, int] = {"noop": 0, "nap": 5}
TITLES: dict[Shape, str] = {
    "cap": "under a cap of two, three workers",
    "free": "no cap, one worker at concurrency two",
    "batches": "as above, claimed and ended in batches",
}


@dataclass
class Comparison:
    """The subjects of the comparison. A subject that fails is left out from then on."""

    subjects: list[Subject]
    absent: dict[str, str] = field(default_factory=dict)

    def of(self, shape: Shape) -> list[Subject]:
        return [one for one in self.subjects if shape in one.shapes and one.name not in self.absent]

    @contextmanager
    def attempt(self, subject: Subject, what: str) -> Iterator[None]:
        progress(f"{subject.name}: {what}")
        try:
            yield
        except (RuntimeError, TimeoutError, OSError, psycopg.Error, subprocess.SubprocessError) as error:
            if isinstance(subject, Lockgate):
                raise
            self.absent[subject.name] = f"{what}: {error}"
            progress(f"{subject.name} is left out from here on: {error}")


@dataclass
class Rounds:
    """Rates of one subject and of the reference in the same rounds, and the most tasks at once."""

    rates: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)
    most: int = 0

    def add(self, rate: float, reference: float, most: int = 0) -> None:
        self.rates.append(rate)
        self.references.append(reference)
        self.most = max(self.most, most)

    def cells(self) -> list[str]:
        if not self.rates:
            return ["", ""]
        return [middle(self.rates), middle(ratios(self.rates, self.references))]


def measure(scale: Scale, python: str = ">=3.12") -> Report:
    """Tasks a second, idle wake-up and depth: other task queues on Postgres beside Lockgate."""
    report = Report(
        "8. Beside its peers",
        "python -m bench.peers",
        "Each peer has its own environment and its own databases on the same server, with the settings that its "
        "documentation recommends (bench/peers/adapters has them and the reason, one file for each peer). Handlers do "
        "the same everywhere: nothing or a sleep of 5 ms, and one line with the times of their start and end. Peers "
        "run handlers in the worker itself, Lockgate runs them in its executors. The peer's own bulk call stores the "
        "first thousand tasks of a queue; all further tasks of the first filling are copies of these. The bench "
        "vacuums the tables before each round, and rounds take turns. Lockgate keeps its cap also where the others "
        "have none. Median and range.",
    )
    with Testbed(scale) as testbed:
        report.environment = testbed.describe()
        comparison = Comparison([Lockgate(testbed)])
        for spec in PEERS:
            progress(f"{spec.name}: installing")
            try:
                peer = Peer(spec, testbed, python)
            except NotInstalledError as error:
                comparison.absent[spec.name] = f"not installed: {error}"
                progress(f"{spec.name} is not installed: {error}")
                continue
            comparison.subjects.append(peer)
            report.environment.append(f"{spec.name}: {peer.environment.versions}")
        throughput(scale, testbed, report, comparison)
        wakeup(scale, testbed, report, comparison)
        depth(scale, report, comparison)
    if comparison.absent:
        table = report.table("left out", "why")
        for name, why in comparison.absent.items():
            table.add(name, " ".join(why.replace("|", "/").split())[-300:])
    return report


def throughput(scale: Scale, testbed: Testbed, report: Report, comparison: Comparison) -> None:
    found: dict[tuple[Shape, Kind, str], Rounds] = defaultdict(Rounds)
    kinds: tuple[tuple[Kind, int, int], ...] = (("noop", scale(3, 1), scale(3, 1)), ("nap", scale(2, 1), scale(2, 1)))
    for kind, count, seconds in kinds:
        for number_of_round in rounds(count, 200 if kind == "noop" else 110):
            for shape in TITLES:
                if shape == "batches" and kind == "nap":
                    continue
                progress(f"{kind}, {shape}, round {number_of_round + 1}")
                reference = of_pgbench(testbed, 2, MS_OF[kind], seconds).rate
                found[shape, kind, PGBENCH].add(reference, reference)
                subjects = comparison.of(shape)
                for subject in random.sample(subjects, len(subjects)):
                    with comparison.attempt(subject, f"{kind}, {shape}"):
                        found[shape, kind, subject.name].add(*one_round(subject, shape, kind, seconds, reference))
    for shape, title in TITLES.items():
        names = [PGBENCH, *(one.name for one in comparison.subjects if shape in one.shapes)]
        table = report.table(
            title, "no-op, tasks/s", "of pgbench's", "5 ms, tasks/s", "of pgbench's", "most at once, of 5 ms"
        )
        for name in names:
            naps = found[shape, "nap", name]
            table.add(name, *found[shape, "noop", name].cells(), *naps.cells(), str(naps.most or ""))
    peers = {
        name: statistics.median(one.rates)
        for (shape, kind, name), one in found.items()
        if (shape, kind) == ("free", "noop") and name not in ("Lockgate", PGBENCH) and one.rates
    }
    if peers:
        ours = statistics.median(found["cap", "noop", "Lockgate"].rates)
        fastest = max(peers, key=lambda name: peers[name])
        report.target(
            "no-op under the cap, tasks/s", number(ours), f"≥ {number(peers[fastest])}, {fastest} without a cap",
            ours >= peers[fastest],
        )  # fmt: skip


def one_round(subject: Subject, shape: Shape, kind: Kind, seconds: float, reference: float) -> tuple[float, float, int]:
    """Returns tasks a second, those of the reference, and the most at once."""
    queue = subject.queue("rate", shape, kind)
    subject.top_up(queue, int(PER_SECOND[shape] * (seconds + 1)))
    with subject.work(queue) as journal:
        started(journal, subject)
        time.sleep(WARM + seconds)
    ends = [end for _, end in journal.executions()]
    begin = ends[FIRST - 1] + WARM * 1e9
    last = begin + seconds * 1e9
    if not queue.waiting:  # without waiting tasks, the measurement ends with the last one
        last = min(last, ends[-1])
    if last <= begin:
        raise RuntimeError(f"all {len(ends)} tasks were executed before the round began")
    counted = sum(1 for end in ends if begin < end <= last)
    return counted / (last - begin) * 1e9, reference, journal.most_at_once()


def wakeup(scale: Scale, testbed: Testbed, report: Report, comparison: Comparison) -> None:
    times: dict[str, list[float]] = defaultdict(list)
    shots = scale(100, 15)
    for number_of_round in rounds(scale(2, 1), 90):
        progress(f"idle wake-up, round {number_of_round + 1}")
        notifier = Notifier(testbed.main)
        for _ in range(shots):
            pause()
            times["bare NOTIFY"].append(notifier.notify())
        notifier.close()
        subjects = comparison.of("free")
        for subject in random.sample(subjects, len(subjects)):
            with comparison.attempt(subject, "idle wake-up"):
                times[subject.name] += shoot(subject, shots)
    table = report.table(
        f"idle wake-up, of {len(times['Lockgate']):,} each, ms", "p50", "p95", "p99", "most", "p50, of a bare NOTIFY's"
    )
    for name in ("bare NOTIFY", *(one.name for one in comparison.subjects)):
        if not (seconds := times[name]):
            continue
        ms = [1000 * one for one in seconds]
        share = percentile(seconds, 50) / percentile(times["bare NOTIFY"], 50)
        table.add(name, *(number(percentile(ms, p)) for p in (50, 95, 99, 100)), number(share))


def shoot(subject: Subject, shots: int) -> list[float]:
    """Returns seconds from submissions, about 30 ms apart, to the first line of their handlers."""
    queue = subject.queue("idle")
    seconds = []
    with subject.work(queue) as journal, subject.submitter(queue) as submit:
        for shot in range(5 + shots):  # the first ones wait for the worker to be ready
            pause()
            before = journal.size()
            sent = submit()
            time.sleep(0.01)  # first: a look at once would disturb the measurement
            until(lambda: journal.size() > before, lambda: f"{subject.name} to execute", START_LIMIT, 0.01)  # noqa: B023 - called at once
            if shot >= 5:
                seconds.append((journal.executions()[-1][0] - sent) / 1e9)
    return seconds


def pause() -> None:
    time.sleep(random.uniform(0.02, 0.04))


def depth(scale: Scale, report: Report, comparison: Comparison) -> None:
    steady, few, many = scale(800, 200), 1000, scale(1_000_000, 20_000)
    found: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for subject in comparison.of("free"):
        with comparison.attempt(subject, f"{many:,} waiting"):
            subject.top_up(subject.queue("deep"), many)
    for number_of_round in rounds(scale(2, 1), 100):
        subjects = comparison.of("free")
        for subject in random.sample(subjects, len(subjects)):
            with comparison.attempt(subject, f"depth, round {number_of_round + 1}"):
                shallow = at_depth(subject, "shallow", few, steady)
                deep = at_depth(subject, "deep", many, steady)
                found[subject.name][0].append(shallow)
                found[subject.name][1].append(deep)
    table = report.table("depth", f"{few:,} waiting, tasks/s", f"{many:,} waiting, tasks/s", "ratio")
    for name in (one.name for one in comparison.subjects if one.name in found):
        shallow_rates, deep_rates = found[name]
        table.add(name, middle(shallow_rates), middle(deep_rates), middle(ratios(deep_rates, shallow_rates)))


def at_depth(subject: Subject, use: str, count: int, steady: int) -> float:
    """Returns no-ops a second with `count` waiting, over `steady` of them or as many as DEPTH_LIMIT allows."""
    queue = subject.queue(use)
    subject.top_up(queue, count)
    with subject.work(queue) as journal:
        started(journal, subject)
        end = time.monotonic() + DEPTH_LIMIT
        while journal.count() < FIRST + steady and time.monotonic() < end:
            time.sleep(0.05)
    ends = [end for _, end in journal.executions()][FIRST - 1 : FIRST + steady]
    if len(ends) < 2:
        raise RuntimeError(f"no more than {FIRST} executions within {DEPTH_LIMIT:.0f} s")
    return (len(ends) - 1) / (ends[-1] - ends[0]) * 1e9


def rounds(count: int, seconds: float) -> Iterator[int]:
    """Yields the numbers of rounds; none begins after that many seconds."""
    begin = time.monotonic()
    for number_of_round in range(count):
        if number_of_round and time.monotonic() > begin + seconds:
            progress(f"no time for round {number_of_round + 1} and later ones")
            return
        yield number_of_round


def started(journal: Journal, subject: Subject) -> None:
    until(lambda: journal.count() >= FIRST, lambda: f"{subject.name} to execute", START_LIMIT)


PYTHON = click.option(
    "--python", default=">=3.12", show_default=True, help="Interpreter of the peers' environments, as uv takes it."
)

if __name__ == "__main__":
    run(measure, PYTHON)
