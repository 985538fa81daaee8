"""``python -m bench``: all measurements that fit into half an hour, one after the other."""

import time
from pathlib import Path

import click

from bench import depth, enqueue, intake, old_transaction, safety, throughput, wakeup, watching
from bench.script import FOLDER, INTO, SHORT, progress, publish
from bench.testbed import Scale
from tests.amqp import broker

QUESTIONS = (throughput, wakeup, enqueue, depth, old_transaction, safety, watching, intake)


@click.command()
@SHORT
@FOLDER
@INTO
def main(short: bool, folder: Path, into: Path | None) -> None:
    """Measure everything that fits into half an hour; the rest is in `make soak`."""
    for question in QUESTIONS:
        begin = time.monotonic()
        try:
            publish(question.measure(Scale(short, folder)), into)
        except broker.NotHere as why:
            progress(f"{question.__name__} is left out: {why}")
            continue
        progress(f"{question.__name__} took {(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
