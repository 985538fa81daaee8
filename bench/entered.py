"""``python -m bench.entered``: how many of our files one request enters, and how many layers a claim passes."""

import json
import subprocess
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
import psycopg

from bench.checkout import Checkout
from bench.machine import ROOT
from bench.report import Report
from bench.script import INTO, publish
from lockgate.postgres.server import Server

PROBE = Path(__file__).with_name("probe.py")
LIMITS = {"POST /tasks": 12, "GET /tasks": 9}
LAYERS = 3
BEFORE = {"POST /tasks": (21, 55), "GET /tasks": (14, 30)}
"""Files and moves at commit 07ec170; a claim passed five layers there."""

HANDLERS = "from lockgate import handler\n\n\n@handler\ndef noop(payload: dict) -> None: ...\n"
SUBMIT = "select lockgate.submit('default', 'noop') from generate_series(1, 20)"


@click.command()
@click.option(
    "--checkout", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=ROOT,
    help="Of which checkout; with a .venv of its own. [default: this one]",
)  # fmt: skip
@INTO
def main(folder: Path, into: Path | None) -> None:
    """Count the files that a request enters and the layers that a claim passes; exit 1 above the limits."""
    checkout = Checkout(folder)
    found, layers = measure(checkout)
    report = Report(
        "15. Files that a request enters",
        "python -m bench.entered",
        "A warm service answers one request at a time under a profile. A file of ours counts when one of its functions "
        "is entered or resumed on any thread, from the request until 50 ms after its answer, so that the group's "
        "commit and the notification count too; the files that most of 21 requests enter. A move is from one of our "
        "files to another, as functions are entered. Layers: our functions from the one in `db.py` that finishes a "
        "task and claims the next down to libpq.",
        environment=[f"Commit {checkout.commit}"],
    )
    table = report.table("request", "files", "moves", "files at 07ec170", "moves at 07ec170")
    for request, entered in found.items():
        count, limit = len(entered["files"]), LIMITS[request]
        table.add(f"`{request}`", str(count), f"{entered['moves']:.0f}", *map(str, BEFORE[request]))
        report.target(f"files of `{request}`", str(count), f"≤ {limit}", count <= limit)
    report.target("layers of a claim (5 at 07ec170)", str(len(layers)), f"≤ {LAYERS}", len(layers) <= LAYERS)
    columns = {f"`{request}`": entered["files"] for request, entered in found.items()} | {"a claim": layers}
    names = report.table(*columns)
    for row in zip_longest(*columns.values(), fillvalue=""):
        names.add(*row)
    publish(report, into)
    if any(row[-1] != "yes" for row in report.targets.rows):
        raise click.exceptions.Exit(1)


def measure(checkout: Checkout) -> tuple[dict[str, Any], list[str]]:
    """What each request enters, and the layers of a claim."""
    with tempfile.TemporaryDirectory(prefix="lockgate-entered-") as place:
        Path(place).chmod(0o755)  # as root, the server runs as another user
        Path(place, "handlers_of_probe.py").write_text(HANDLERS)
        with Server(Path(place) / "data") as server:
            urls = checkout.migrate(server)
            found = probe(checkout, place, urls["service"], "service")
            with psycopg.connect(urls["owner"], autocommit=True) as owner:
                owner.execute(SUBMIT)
            return found, probe(checkout, place, urls["runner"], "runner", checkout.package("runner"))


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
