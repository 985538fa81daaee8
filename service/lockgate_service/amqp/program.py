"""The life of a program that speaks to RabbitMQ, around its work: signals, status file, counters in the log."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Coroutine, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import click

from lockgate.log import logger
from lockgate.signals import stopping

# Seconds.
STATUS_EVERY = 1.0
COUNTED_EVERY = 60.0


class Program(Protocol):
    """The intake or the publisher. `counters` is a dataclass of numbers."""

    counters: Any

    async def run(self) -> None:
        """Returns after `stop`."""

    def stop(self) -> None: ...

    def status(self) -> dict[str, Any]:
        """For the status file, beside the counters. `works`: whether it does its work now."""


@contextlib.contextmanager
def client_needed() -> Iterator[None]:
    """Around the import and the life of a program. Raises click.ClickException without the client for RabbitMQ."""
    # Our own lines say it when the broker is lost.
    for noisy in ("aiormq", "aiormq.connection", "aiormq.channel"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    logger.info("starting")
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("aiormq", "pamqp", "yarl"):
            raise
        raise click.ClickException("this needs the client for RabbitMQ: pip install 'lockgate[amqp]'") from None
    logger.info("stopped")


async def live(program: Program, status_file: str | None, *beside: Coroutine[Any, Any, None]) -> None:
    """Runs the program, and `beside` it what else it needs, until the first TERM or Ctrl-C."""
    tasks = [asyncio.create_task(each) for each in (*beside, _log_counters(program), _report(program, status_file))]
    try:
        with stopping(program.stop):
            await program.run()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        logger.info("counted", **asdict(program.counters))


async def _log_counters(program: Program) -> None:
    """Logs them when they have changed. Never returns."""
    before: dict[str, Any] = {}
    while True:
        now = asdict(program.counters)
        if before and now != before:
            logger.info("counted", **now)
        before = now
        await asyncio.sleep(COUNTED_EVERY)


async def _report(program: Program, file: str | None) -> None:
    """Writes the status file every second. Never returns."""
    is_writable = True
    while True:
        if file is not None:
            try:
                write(Path(file), program.status() | asdict(program.counters))
                is_writable = True
            except OSError as error:
                if is_writable:
                    logger.warning("status file cannot be written", file=file, error=str(error))
                is_writable = False
        await asyncio.sleep(STATUS_EVERY)


def write(path: Path, status: dict[str, Any]) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(json.dumps(status | {"time": time.time()}))
    draft.replace(path)
