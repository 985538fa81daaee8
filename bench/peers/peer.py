"""A peer: its adapter, run in an environment of its own."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select

import psycopg

from bench.peers import environment
from bench.peers.environment import Environment
from bench.peers.subject import Queue, Shape, Subject, Submit
from bench.testbed import Testbed

ADAPTERS = Path(__file__).parent / "adapters"
ORIGINALS = 1000
"""Tasks of a first filling that the peer's bulk call stores; the rest are copies, since a million can take minutes."""

COLUMNS = """
select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
where attrelid = %s::regclass and attnum > 0 and attname <> 'id'
  and not attisdropped and attgenerated = '' and attidentity = ''
"""
ANSWER_LIMIT = 30.0
FILL_LIMIT = 300.0
STOP_LIMIT = 15.0


@dataclass(frozen=True)
class Spec:
    """The packages of a peer, and the measurements it supports."""

    name: str
    adapter: str
    install: Callable[[Path, Sequence[str], str], Environment]
    packages: tuple[str, ...]
    shapes: tuple[Shape, ...]
    table: str
    """The table of its waiting tasks, whose `id` has a default."""


PSYCOPG = "psycopg[binary,pool]==3.3.9"
PEERS = (
    Spec(
        "procrastinate", "procrastinate.py", environment.python, ("procrastinate==3.10.0", PSYCOPG), ("free",),
        "procrastinate_jobs",
    ),
    Spec(
        "pgqueuer", "pgqueuer.py", environment.python, ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
        ("free", "cap"), "pgqueuer",
    ),
    Spec("oban", "oban.py", environment.python, ("oban==0.7.0", PSYCOPG, "uvloop==0.23.0"), ("free",), "oban_jobs"),
    Spec(
        "graphile-worker", "graphile-worker.mjs", environment.node, ("graphile-worker@0.18.0", "pg@8.23.1"),
        ("free", "batches"), "graphile_worker._private_jobs",
    ),
    Spec(
        "pg-boss", "pg-boss.mjs", environment.node, ("pg-boss@12.38.0", "pg@8.23.1"), ("free", "cap", "batches"),
        "pgboss.job",
    ),
)  # fmt: skip


class Peer(Subject):
    """Speaks to the adapter: `install`, `fill KIND COUNT`, `work`, `submit`, with settings in its environment.

    DATABASE_URL and SHAPE always, JOURNAL for `work`. `submit` submits a no-op for each line of its input, and prints
    the time just before.
    """

    def __init__(self, spec: Spec, testbed: Testbed, interpreter: str) -> None:
        """Installs it. Raises NotInstalledError."""
        super().__init__(spec.name, testbed, spec.shapes)
        self._table = spec.table
        self.environment = spec.install(ADAPTERS / spec.adapter, spec.packages, interpreter)
        self._template = ""

    def create(self, database: str) -> None:
        if not self._template:
            self._template = f"{self.name}_template".replace("-", "_")
            self.testbed.main.owner.execute(f"create database {self._template}".encode())
            self._run(Queue(self._template, "free", "noop"), "install")
        self.testbed.main.owner.execute(f"create database {database} template {self._template}".encode())

    def fill(self, queue: Queue, count: int) -> None:
        originals = min(count, ORIGINALS) if not queue.filled else count
        self._run(queue, "fill", queue.kind, str(originals))
        if count > originals:
            with psycopg.connect(self.testbed.server.dsn(database=queue.database), autocommit=True) as owner:
                (columns,) = owner.execute(COLUMNS.encode(), (self._table,)).fetchone() or ("",)
                copies = -(-count // originals) - 1
                source = f"{self._table}, generate_series(1, {copies}) limit {count - originals}"
                copy = f"insert into {self._table} ({columns}) select {columns} from {source}"  # noqa: S608 - from its spec
                owner.execute(copy.encode())

    @contextmanager
    def workers(self, queue: Queue, journal: Path) -> Iterator[None]:
        with self._log().open("ab") as log:
            started = [
                subprocess.Popen(
                    [*self.environment.command, "work"], env=self._settings(queue) | {"JOURNAL": str(journal)},
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )
                for _ in range(3 if queue.shape == "cap" else 1)
            ]  # fmt: skip
            try:
                try:
                    yield
                except TimeoutError as error:
                    raise TimeoutError(f"{error}: {self._log_tail()}") from error
                if any(worker.poll() is not None for worker in started):
                    raise RuntimeError(f"a worker has ended: {self._log_tail()}")
            finally:
                stop(started)

    @contextmanager
    def submitter(self, queue: Queue) -> Iterator[Submit]:
        with self._log().open("ab") as log:
            process = subprocess.Popen(
                [*self.environment.command, "submit"], env=self._settings(queue), text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip

        def submit() -> int:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            # One line for each line: the buffer holds nothing that select does not see.
            if not select([process.stdout], [], [], ANSWER_LIMIT)[0] or not (line := process.stdout.readline()):
                raise RuntimeError(f"it does not submit: {self._log_tail()}")
            return int(line)

        try:
            yield submit
        finally:
            stop([process])

    def _run(self, queue: Queue, *arguments: str) -> None:
        done = subprocess.run(
            [*self.environment.command, *arguments], env=self._settings(queue), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=FILL_LIMIT,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{arguments[0]}: {done.stderr[-500:]}")

    def _settings(self, queue: Queue) -> dict[str, str]:
        url = self.testbed.server.dsn(database=queue.database)
        return dict(os.environ) | {"DATABASE_URL": url, "SHAPE": queue.shape}

    def _log(self) -> Path:
        return self.testbed.folder / f"{self.name}.log"

    def _log_tail(self) -> str:
        return self._log().read_text(errors="replace")[-500:]


def stop(processes: "Sequence[subprocess.Popen[bytes] | subprocess.Popen[str]]") -> None:
    """Sends TERM to all of them, waits, then KILL."""
    for process in processes:
        with suppress(ProcessLookupError):
            process.terminate()
    for process in processes:
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_LIMIT)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()
