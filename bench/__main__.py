"""``python -m bench``: every question that is answered within half an hour, one after the other."""

import time
from pathlib import Path

import click

from bench import depth, enqueue, pinned, safety, throughput, wakeup, watching
from bench.ground import Scale
from bench.script import FOLDER, INTO, SHORT, say, tell

QUESTIONS = (throughput, wakeup, enqueue, depth, pinned, safety, watching)


@click.command()
@SHORT
@FOLDER
@INTO
def main(short: bool, folder: Path, into: Path | None) -> None:
    """Measure everything but the soak."""
    for question in QUESTIONS:
        begin = time.monotonic()
        tell(question.measure(Scale(short, folder)), into)
        say(f"{question.__name__} took {(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
