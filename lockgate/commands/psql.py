"""`lockgate psql`: the database, by hand."""

import os
import shutil

import click
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate.commands.database import Database, asks_database
from lockgate.errors import UserError
from lockgate.postgres import binaries

SEARCH_PATH = "-c search_path=lockgate,public"


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
