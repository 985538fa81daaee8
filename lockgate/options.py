"""The options that several programs have, and the check of the environment for misspelt ones."""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from lockgate import log
from lockgate.errors import UserError

Command = TypeVar("Command", bound=Callable[..., Any] | click.Command)

PREFIX = "LOCKGATE_"
# Variables that are read, and are no option of any command.
WITHOUT_OPTION = frozenset(
    {
        "LOCKGATE_ACTIVATION",
        "LOCKGATE_AMQP_URL_FILE",
        "LOCKGATE_HANDLERS",
        "LOCKGATE_LIFELINE",
        "LOCKGATE_RUNNER_NAME",
        "LOCKGATE_WITNESS",
    }
)


def misspelt(environment: Mapping[str, str], commands: Iterable[click.Command]) -> str | None:
    """Return what is wrong with the names of these variables, in one line; None if each is an option of a command.

    Takes no more commands than it needs: to import one may take long.
    """
    known = set(WITHOUT_OPTION)
    unknown = {name for name in environment if name.startswith(PREFIX)} - known
    for command in commands if unknown else ():
        known |= {str(option.envvar) for option in command.params}
        unknown -= known
        if not unknown:
            return None
    if not unknown:
        return None
    near = difflib.get_close_matches(min(unknown), known, n=1)
    return f"{', '.join(sorted(unknown))}: no such setting" + (f"; did you mean {near[0]}?" if near else "")


def option(variable: str, *names: str, **attributes: Any) -> Callable[[Command], Command]:
    """Return a click option that an environment variable sets too; its help names the variable and the default."""
    attributes.setdefault("show_default", "default" in attributes)
    return click.option(*names, envvar=variable, show_envvar=True, **attributes)


def url_option(
    option: str,
    variable: str,
    text: str,
    *,
    required: bool = True,
    default: str | None = None,
    is_one: Callable[[str], bool] = bool,
    form: str = "",
) -> Callable[[Command], Command]:
    """Return the option for the URL of a server, which may hold a password: it can come from the file that the
    variable with _FILE at its end names, and no message repeats it.

    `default`: what the help says of it; `is_one`: whether a text is of that `form`.
    """

    def checked(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
        if url is not None and form and not is_one(url):
            raise UserError(f"{variable} is not of the form {form}", exit_code=2)
        return url

    def from_file() -> str | None:
        name = os.environ.get(f"{variable}_FILE")
        if not name:
            if required:  # not left to click's `required`, which takes what this returns for a value
                raise click.UsageError(f"Missing option '{option}' (or {variable}, or {variable}_FILE).")
            return None
        try:
            return Path(name).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{variable}_FILE: {error}", exit_code=2) from None

    return click.option(
        option,
        envvar=variable,
        show_envvar=True,
        metavar="URL",
        default=from_file,
        show_default=default or f"the content of the file {variable}_FILE",
        callback=checked,
        help=text,
    )


def database_url(text: str, **how: Any) -> Callable[[Command], Command]:
    """Return the option --database-url, with this help; `how`: see `url_option`."""
    return url_option("--database-url", "DATABASE_URL", text, **how)


def default_data() -> Path:
    """Return where data goes unless told otherwise: for root a place that the server's user can enter."""
    if os.geteuid() == 0:
        return Path("/var/lib/lockgate/data")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "lockgate"


def data_option(text: str) -> Callable[[Command], Command]:
    """Return the option --data, with this help."""
    return option(
        "LOCKGATE_DATA",
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_data,
        show_default="/var/lib/lockgate/data as root, else ~/.local/share/lockgate",
        help=text,
    )


def _address(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """Return [HOST:]PORT as given: it may have to be handed on. Raises click.BadParameter."""
    if not text:
        return None
    port = text.rpartition(":")[2]
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise click.BadParameter(f"{text!r} is not of the form [HOST:]PORT, as in 9101 or 0.0.0.0:9101")
    return text


METRICS = option(
    "LOCKGATE_METRICS",
    "--metrics",
    metavar="[HOST:]PORT",
    callback=_address,
    show_default="nowhere",
    help="Where to serve metrics for Prometheus, at /metrics.",
)
LOG_FORMAT = option(
    "LOCKGATE_LOG_FORMAT",
    "--log-format",
    type=click.Choice(log.FORMATS),
    default="auto",
    help="auto: console on a terminal, JSON lines elsewhere.",
)
LOG_LEVEL = option(
    "LOCKGATE_LOG_LEVEL", "--log-level", type=click.Choice(log.LEVELS), default="info", help="The least that is logged."
)
