"""`lockgate run`, a supervised runner: when it dies, a successor takes over its slots without waiting out the grace.

That is safe only once the runner and every executor of it are dead, and the kernel says so: all of them, and nobody
else, hold the writing end of a pipe, the lifeline. Its end of file is the proof. A successor told the dead runner's
name may then adopt its tasks at once. Without the proof (a handler forked a child that still holds the pipe) the
successor starts all the same, and waits out the grace like everybody else.

Every runner is started the same way: it loads its handlers and waits for a go-ahead on a socket. The first one gets
it at once, and a spare when it becomes the successor. The end of the socket is not a go-ahead.
"""

import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from click.core import ParameterSource
from lockgate_runner.settings import options

from lockgate.backoff import Backoff
from lockgate.local.process import SHORT_LIFE, RunnerProgram, environment
from lockgate.options import option
from lockgate.signals import Signals

PROOF_LIMIT = 5.0  # seconds a dead runner's lifeline may stay open before a successor starts without inheriting
STEADY = 2.0  # seconds a runner must have served for the next one to start without a pause
REMEMBERED = 16  # names of dead runners that a successor is told: each may have died before it adopted from the last
SPARE_LATER = 1.0  # seconds between the moment since when a spare is needed and its start: work comes first
SPARE_LINGERS = 10.0  # seconds for which it stays when it is needed no more
SPARE_STEADY = 60.0  # seconds a spare must have lived for the next one to be started without a longer pause


class Spare:
    """At most one runner process that waits for a go-ahead. Call `tend` every half second or so.

    To start Python twice, for the runner and for its executor, and to import the handlers takes most of the time until
    a dead runner's task executes again. A spare has done all that. It has no session, no slot and no row; it costs the
    memory of a runner with one executor. While nobody holds a slot there is no spare: runners that stand by keep an
    executor instead.
    """

    def __init__(self, make: Callable[[], RunnerProgram]) -> None:
        self._make = make
        self._process: RunnerProgram | None = None
        self._needed_since: float | None = None
        self._needed_until = 0.0
        self._not_before = 0.0
        self._backoff = Backoff(1.0, 300.0)
        self._stopped = False

    def tend(self, needed: bool) -> None:
        """Starts one where there is none, when one is needed; ends it when none is."""
        now = time.monotonic()
        self._needed_since = (self._needed_since or now) if needed else None
        self._needed_until = now if needed else self._needed_until
        process = self._process
        if process and process.ended is not None:
            process.close()
            if process.lived >= SPARE_STEADY:
                self._backoff.reset()
            self._not_before = now + self._backoff.next()
            self._process = None
        elif process and now > self._needed_until + SPARE_LINGERS:
            process.discard()
            self._process = None
        elif process is None and self._is_due(now):
            process = self._make()
            process.start()
            self._process = process

    def _is_due(self, now: float) -> bool:
        if self._stopped or self._needed_since is None:
            return False
        return now >= max(self._needed_since + SPARE_LATER, self._not_before)

    def take(self) -> RunnerProgram | None:
        """The spare, to be activated; None when there is none that lives."""
        process = self._process
        if process is None or process.ended is not None:
            return None
        self._process, self._needed_since = None, None
        self._backoff.reset()
        return process

    def stop(self) -> None:
        """Ends it, for good."""
        self._stopped = True
        if self._process:
            self._process.discard()
            self._process = None


spare_option = option(
    "LOCKGATE_SPARE",
    "--spare/--no-spare",
    default=True,
    show_default="on",
    help="Keep one runner more, loaded and waiting, to take the place of one that dies.",
)


class Supervisor:
    """One runner, and its successors: made by `make`, or taken from the `spare`. Call `tend` after each `watch`.

    `metrics`: where each of them serves its metrics; None = where its environment says.
    """

    def __init__(
        self, make: Callable[[], RunnerProgram], spare: Spare | None = None, metrics: str | None = None
    ) -> None:
        self.module = "lockgate_runner"
        self._make = make
        self._spare = spare
        self._metrics = metrics
        self._runner = make()
        self._inherit: deque[str] = deque(maxlen=REMEMBERED)
        self._replaced = 0
        self._died: float | None = None
        self._backoff = Backoff(0.1, 5.0, jitter=0)
        self._pause = 0.0
        self._stopping = False

    @property
    def name(self) -> str:
        return self._runner.name

    @property
    def serving(self) -> bool:
        return self._runner.serving and self._died is None

    @property
    def holding(self) -> bool:
        return self._runner.holding

    @property
    def replacing(self) -> bool:
        """Whether its runner is dead and the successor not yet started."""
        return self._died is not None

    @property
    def refused(self) -> bool:
        """Whether its runner ended by itself, with an error, and another would do the same: see `ended`."""
        runner = self._runner
        return (runner.exit_code or 0) > 0 and (not runner.serving or runner.lived < SHORT_LIFE)

    @property
    def ended(self) -> str | None:
        return self._runner.ended

    def start(self) -> None:
        self._runner.start()
        self._runner.go(keep_executor=self._spare is not None, metrics=self._metrics)

    def tend(self) -> str | None:
        """Replaces a runner that has died; what it died of, in words, or None if nothing happened."""
        runner = self._runner
        if runner.is_gone:
            runner.wait(0.1)  # the kernel closes what a process has open a moment before it is dead
        ended = runner.ended
        if ended is None or self._stopping or self.refused:
            return None
        now = time.monotonic()
        if self._died is None:
            self._died = now
            if runner.lived >= STEADY or self._replaced == 0:
                self._backoff.reset()
                self._pause = 0.0
            else:
                self._pause = self._backoff.next()
        proven = runner.is_gone
        if now < self._died + (self._pause if proven else max(self._pause, PROOF_LIMIT)):
            return None
        if proven:
            self._inherit.append(runner.name)
        runner.close()
        self._succeed()
        return ended

    def _succeed(self) -> None:
        successor = self._spare.take() if self._spare else None
        if successor is None:
            successor = self._make()
            successor.start()
        self._runner, self._died = successor, None
        self._replaced += 1
        successor.go(self._inherit, keep_executor=self._spare is not None, metrics=self._metrics)

    def news(self) -> Iterator[int]:
        """Yield the descriptors that become readable when there is something to tend."""
        if not self._runner.is_gone:
            yield self._runner.lifeline
        if self._died is None and not self._runner.serving:
            yield self._runner.activation.fileno()

    def ask(self) -> None:
        """Ask the runner to stop; there will be no other."""
        self._runner.ask()
        self._end()

    def wait(self, limit: float) -> bool:
        """Wait for the runner's end, at most `limit` seconds; whether it has ended."""
        return self._runner.wait(limit)

    def kill(self) -> None:
        self._end()
        self._runner.kill()

    def _end(self) -> None:
        self._stopping = True
        if self._spare:
            self._spare.stop()


def needed(supervisors: Sequence[Supervisor]) -> bool:
    """Whether a spare would be of use now: somebody has slots to lose, and all of them have got going."""
    return all(each.serving for each in supervisors) and any(each.holding for each in supervisors)


def watch(supervisors: Sequence[Supervisor], limit: float) -> None:
    """Wait until there is something to tend, at most `limit` seconds."""
    news = [descriptor for each in supervisors for descriptor in each.news()]
    select.select(news, [], [], 0.05 if any(each.replacing for each in supervisors) else limit)


@click.command()
@options
@spare_option
@click.pass_context
def run(ctx: click.Context, /, spare: bool, **_: Any) -> None:
    """Take tasks out of the queue and execute them.

    A runner that dies is replaced at once, and its successor takes over its slots. TERM or Ctrl-C stops it in order, a
    second one in a hurry. Handlers come from the modules named in LOCKGATE_HANDLERS.
    """
    settings = environment(**dict(_as_environment(ctx)))

    def make() -> RunnerProgram:
        return RunnerProgram(settings)

    kept = Spare(make) if spare else None
    supervisor = Supervisor(make, kept)
    with Signals() as signals:
        try:
            supervisor.start()
            while not supervisor.refused:
                signals.check()
                if how := supervisor.tend():
                    click.echo(f"lockgate: the runner died ({how}); another has its place", err=True)
                if kept:
                    kept.tend(needed([supervisor]))
                watch([supervisor], 0.5)
            sys.exit(1)  # it has said why
        except KeyboardInterrupt:
            asked = 0
            while not supervisor.wait(0.05):
                if asked < min(signals.count, 2):
                    supervisor.ask()
                    asked += 1


# The supervisor names its runners itself, each with a new name, and tells each when it is needed.
run.params = [each for each in run.params if each.name not in ("name", "activation")]


def _as_environment(ctx: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the options of the command line as environment variables: that is how the runner is told."""
    for each in run.params:
        name = str(each.name)
        if name != "spare" and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = ctx.params[name]
            yield str(each.envvar), " ".join(value) if isinstance(value, tuple) else str(value)
