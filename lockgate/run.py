"""`lockgate run`: a runner and, when it dies, its successors."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

from lockgate.interruption import Interruption
from lockgate.program import environment
from lockgate.supervisor import Supervisor
from runner.__main__ import main as runner

# The supervisor names its runners itself, each with a new name, and tells each what it inherits.
OPTIONS = [option for option in runner.params if option.name not in ("name", "inherit")]


@click.pass_context
def supervise(ctx: click.Context, /, **_: Any) -> None:
    """Take tasks out of the queue and execute them.

    A runner that dies is replaced at once, and its successor takes over its slots. TERM or Ctrl-C stops it in order, a
    second one in a hurry. Handlers come from the modules named in LOCKGATE_HANDLERS.
    """
    supervisor = Supervisor(environment(**dict(_as_environment(ctx))))
    with Interruption() as interruption:
        try:
            supervisor.start()
            while not supervisor.refused:
                if how := supervisor.tend():
                    click.echo(f"lockgate: the runner died ({how}); another has its place", err=True)
                time.sleep(0.1)
            sys.exit(1)  # it has said why
        except KeyboardInterrupt:
            asked = 0
            while not supervisor.wait(0.05):
                if asked < min(interruption.count, 2):
                    supervisor.ask()
                    asked += 1


def _as_environment(ctx: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the options of the command line as environment variables: that is how the runner is told."""
    for option in OPTIONS:
        name, variable = str(option.name), str(option.envvar)
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = ctx.params[name]
            yield variable, " ".join(value) if isinstance(value, tuple) else str(value)


run = click.Command("run", params=OPTIONS, callback=supervise, help=supervise.__doc__)
