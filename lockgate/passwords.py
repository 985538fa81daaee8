"""`lockgate passwords`: a password of its own for each login, as files."""

import os
import secrets
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

import click

BYTES = 32  # of a password, at random


def _parsed(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> dict[str, SplitResult]:
    """Return the URL, with a user and without a password, for each name. Raises click.BadParameter."""
    urls = {}
    for text in texts:
        name, _, address = text.partition("=")
        url = urlsplit(address)
        if not name.isidentifier() or not url.scheme or not url.username or url.password is not None:
            raise click.BadParameter(f"{name!r}: expected name=scheme://user@host/..., without a password")
        urls[name] = url
    return urls


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("urls", metavar="NAME=URL...", nargs=-1, required=True, callback=_parsed)
def passwords(folder: Path, urls: dict[str, SplitResult]) -> None:
    """Make a random password for each login, unless it has one, and keep it in files.

    FOLDER/NAME/password holds it, FOLDER/NAME/url the whole URL, for DATABASE_URL_FILE. Whoever may enter these folders
    may read them.

    \b
    lockgate passwords secrets service=postgresql://lockgate_app_service@db/lockgate
    """
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
    for name, url in urls.items():
        place = folder / name
        place.mkdir(exist_ok=True)
        password = place / "password"
        if not password.exists():
            _write(password, secrets.token_urlsafe(BYTES))
            click.echo(f"password made: {name}")
        _write(place / "url", _with_password(url, password.read_text().strip()))


def _with_password(url: SplitResult, password: str) -> str:
    user, _, host = url.netloc.rpartition("@")
    return urlunsplit(url._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a password that is half written would be taken for one."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(f"{text}\n")
    draft.chmod(0o444)
    draft.replace(path)
