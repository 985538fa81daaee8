"""`lockgate run`: a runner and, when it dies, its successors."""

import sys
from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource
from lockgate_runner.settings import options

from lockgate.local.process import RunnerProgram, environment
from lockgate.local.supervisor import Spare, Supervisor, needed, spare_option, watch
from lockgate.signals import Signals


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
run.params = [option for option in run.params if option.name not in ("name", "activation")]
OPTIONS = [option for option in run.params if option.name != "spare"]
"""What a runner is told, and how."""


def _as_environment(ctx: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the options of the command line as environment variables: that is how the runner is told."""
    for option in OPTIONS:
        name, variable = str(option.name), str(option.envvar)
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = ctx.params[name]
            yield variable, " ".join(value) if isinstance(value, tuple) else str(value)
