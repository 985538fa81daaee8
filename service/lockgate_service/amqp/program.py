"""What the programs that speak to RabbitMQ do around their work."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lockgate.errors import UserError
from lockgate.log import logger

# Seconds.
STATUS_EVERY = 1.0
COUNTED_EVERY = 60.0


@contextlib.contextmanager
def run() -> Iterator[None]:
    """Around the import and the life of such a program. Raises UserError without the client for RabbitMQ."""
    # What they say about a lost broker, we say in a line of our own.
    for noisy in ("aiormq", "aiormq.connection", "aiormq.channel"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    logger.info("starting")
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("aiormq", "pamqp", "yarl"):
            raise
        raise UserError("this needs the client for RabbitMQ: pip install 'lockgate[amqp]'") from None
    logger.info("stopped")


async def count(counters: Callable[[], Mapping[str, float]]) -> None:
    """Into the log, when there is something new. Never returns."""
    before: Mapping[str, float] = {}
    while True:
        now = counters()
        if before and now != before:
            logger.info("counted", **now)
        before = now
        await asyncio.sleep(COUNTED_EVERY)


async def report(file: str | None, status: Callable[[], dict[str, Any]]) -> None:
    """Writes it every second. Never returns."""
    said = True
    while True:
        if file is not None:
            try:
                write(Path(file), status())
                said = True
            except OSError as error:
                if said:
                    logger.warning("status file cannot be written", file=file, error=str(error))
                said = False
        await asyncio.sleep(STATUS_EVERY)


def write(path: Path, status: dict[str, Any]) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(json.dumps(status | {"time": time.time()}))
    draft.replace(path)
