"""``python -m lockgate_runner``: one runner process, in the foreground."""

import asyncio
import os
import secrets
import socket
from typing import Any

import click

from lockgate import log
from lockgate.errors import UserError, explained
from lockgate.signals import stopping
from lockgate_runner.activation import Activation
from lockgate_runner.executor.process import HandlersNotLoaded
from lockgate_runner.runner import Runner
from lockgate_runner.session import NotDirect, SchemaTooOld
from lockgate_runner.settings import Settings, options


def default_name() -> str:
    """A name no other runner process ever has: readable, and random where readable is not enough."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


async def serve(settings: Settings, name: str, activation: Activation | None) -> None:
    runner = Runner(settings, name, activation)
    with stopping(runner.stop):
        await runner.run()


@click.command()
@options
def main(**given: Any) -> None:
    """Takes tasks out of the queue and executes them, one runner process in the foreground.

    Handlers come from the modules named in LOCKGATE_HANDLERS. SIGTERM or Ctrl-C stops it in order, a second one at
    once.
    """
    settings = Settings(**given)
    name = settings.name or default_name()
    log.configure(settings.log_format, settings.log_level, runner=name)
    activation = None if settings.activation is None else Activation(settings.activation)
    what = "" if activation is None or activation.is_here else "no spare runner: "
    with explained():
        try:
            asyncio.run(serve(settings, name, activation))
        except HandlersNotLoaded as error:
            raise UserError(f"{what}the handlers cannot be loaded: {error}") from None
        except (NotDirect, SchemaTooOld) as error:
            raise UserError(str(error)) from None


if __name__ == "__main__":
    main()
