"""``python -m tests.fuzz``: Schemathesis, with all its checks, against a service that lives."""

import os
import secrets
import shlex
import subprocess
import sys
from pathlib import Path

import click

from tests.fuzz.scene import Scene, scene

CONFIG = Path(__file__).with_name("schemathesis.toml")
LIMIT = 120.0
"""Seconds beyond its time after which Schemathesis hangs."""


@click.command()
@click.option("--seconds", type=click.IntRange(1), default=600, show_default=True, help="How long.")
@click.option("--seed", type=int, default=None, help="Of everything that is random. [default: a new one, printed]")
@click.option("--keep", is_flag=True, help="After a failure, keep the service until Enter, for its curl lines.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(seconds: int, seed: int | None, keep: bool, options: tuple[str, ...]) -> None:
    """Sends the service what its OpenAPI document allows and what it does not, in chains too, and looks at every
    answer: exit code 0 only if all of them are as documented. OPTIONS, after --, are for `schemathesis run`."""
    seed = secrets.randbelow(100_000) if seed is None else seed
    again = ["uv", "run", "python", "-m", "tests.fuzz", "--seconds", str(seconds), "--seed", str(seed)]
    again += ["--", *options] if options else []
    click.echo(f"$ {shlex.join(again)}")
    with scene() as made:
        failed = fuzz(made, seconds, seed, options)
        for line in faults(made):
            click.echo(line)
            failed = True
        if failed and keep:
            input(f"The service is at {made.service.url} until Enter: ")
    click.echo(f"Seed {seed}; once more: {shlex.join(again)}")
    sys.exit(1 if failed else 0)


def fuzz(made: Scene, seconds: int, seed: int, options: tuple[str, ...]) -> bool:
    """Whether something is not as documented."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
        *(f"{made.service.url}/docs/openapi.json", "--max-time", str(seconds), "--seed", str(seed), *options),
    ]
    return subprocess.run(command, env=os.environ | {"LOCKGATE_KEY": made.key}, timeout=seconds + LIMIT).returncode != 0


def faults(made: Scene) -> list[str]:
    """What a client cannot see."""
    found = [f"the log has: {line}" for line in made.service.lines if line["level"] in ("error", "critical")]
    if made.service.popen.poll() is not None:
        found.append(f"the service has ended: {made.service.ended()}")
    return found


if __name__ == "__main__":
    main()
