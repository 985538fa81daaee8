"""``python -m bench.entered``: how many of our files one request enters, and how many layers a claim passes."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click
import psycopg

from bench.checkout import Checkout
from bench.machine import ROOT
from lockgate.postgres.server import Server

PROBE = Path(__file__).with_name("probe.py")
LIMITS = {"POST /tasks": 12, "GET /tasks": 9}
LAYERS = 3
HANDLERS = "from lockgate import handler\n\n\n@handler\ndef noop(payload: dict) -> None: ...\n"
SUBMIT = "select lockgate.submit('default', 'noop') from generate_series(1, 20)"


@click.command()
@click.option(
    "--checkout", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=ROOT,
    help="Of which checkout; with a .venv of its own. [default: this one]",
)  # fmt: skip
@click.option("--files", is_flag=True, help="Also print the files.")
def main(folder: Path, files: bool) -> None:
    """Count the files that a request enters and the layers that a claim passes; exit 1 above the limits."""
    checkout = Checkout(folder)
    with tempfile.TemporaryDirectory(prefix="lockgate-entered-") as place:
        Path(place).chmod(0o755)  # as root, the server runs as another user
        Path(place, "handlers_of_probe.py").write_text(HANDLERS)
        with Server(Path(place) / "data") as server:
            urls = checkout.migrate(server)
            found = probe(checkout, place, urls["service"], "service")
            with psycopg.connect(urls["owner"], autocommit=True) as owner:
                owner.execute(SUBMIT)
            layers = probe(checkout, place, urls["runner"], "runner", checkout.package("runner"))
    click.echo(f"Commit {checkout.commit}")
    for request, entered in found.items():
        click.echo(
            f"{request}: {len(entered['files'])} files, {entered['moves']} moves (limit {LIMITS[request]} files)"
        )
        if files:
            click.echo("".join(f"  {file}\n" for file in entered["files"]), nl=False)
            click.echo("".join(f"  now and then: {file}\n" for file in entered["now and then"]), nl=False)
    click.echo(f"finish_and_claim: {len(layers)} layers (limit {LAYERS})")
    if files:
        click.echo("".join(f"  {layer}\n" for layer in layers), nl=False)
    if len(layers) > LAYERS or any(len(entered["files"]) > LIMITS[name] for name, entered in found.items()):
        raise click.exceptions.Exit(1)


def probe(checkout: Checkout, place: str, url: str, *arguments: str) -> Any:
    """What `bench.probe` found in a program of that checkout.

    Raises:
        click.ClickException: the program ended or took too long; with what it printed.
    """
    settings = {
        "DATABASE_URL": url, "LOCKGATE_HANDLERS": "handlers_of_probe", "LOCKGATE_CONCURRENCY": "1", "PYTHONPATH": place,
    }  # fmt: skip
    what, *rest = arguments
    command = [str(checkout.python), "-P", str(PROBE), what, str(checkout.folder), *rest]
    done = subprocess.run(
        command, env=checkout.environment(settings), cwd=place, capture_output=True, text=True, timeout=120, check=False
    )
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(('{"POST', '["')):
            return json.loads(line)
    raise click.ClickException(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")


if __name__ == "__main__":
    main()
