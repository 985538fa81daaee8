"""``python -m bench``: every question that is answered within half an hour, one after the other."""

import time
from pathlib import Path

import click

from bench import (
    depth,
    enqueue,
    intake,
    page_load,
    pinned,
    safety,
    throughput,
    waiting,
    wakeup,
    watching,
)
from bench.ground import Scale
from bench.script import FOLDER, INTO, SHORT, say, tell
from tests.amqp import broker
from tests.page import chromium

QUESTIONS = (throughput, wakeup, enqueue, depth, pinned, safety, watching, intake, waiting, page_load)


@click.command()
@SHORT
@FOLDER
@INTO
def main(short: bool, folder: Path, into: Path | None) -> None:
    """Measure everything but what takes long by itself: that is `make soak`."""
    for question in QUESTIONS:
        begin = time.monotonic()
        try:
            tell(question.measure(Scale(short, folder)), into)
        except (broker.NotHere, chromium.NotHere) as why:
            say(f"{question.__name__} is left out: {why}")
            continue
        say(f"{question.__name__} took {(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
