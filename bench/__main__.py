"""``python -m bench``: every question that is answered within half an hour, one after the other."""

import time
from pathlib import Path

import click

from bench import depth, enqueue, intake, pinned, safety, throughput, wakeup, watching
from bench.ground import Scale
from bench.script import FOLDER, INTO, SHORT, say, tell
from tests.amqp import broker

QUESTIONS = (throughput, wakeup, enqueue, depth, pinned, safety, watching, intake)


@click.command()
@SHORT
@FOLDER
@INTO
def main(short: bool, folder: Path, into: Path | None) -> None:
    """Measure everything that fits into half an hour; the rest is in `make soak`."""
    for question in QUESTIONS:
        begin = time.monotonic()
        try:
            tell(question.measure(Scale(short, folder)), into)
        except broker.NotHere as why:
            say(f"{question.__name__} is left out: {why}")
            continue
        say(f"{question.__name__} took {(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
