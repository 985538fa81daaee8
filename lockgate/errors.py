"""Expected failures, each told in one line without a traceback."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

# The schema names its constraints as sentences; these say more.
CONSTRAINTS = {
    "a_queue_name_is_short_and_plain": "a queue's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a-z or 0-9"
}


class UserError(click.ClickException):
    """One line on stderr and an exit code, without usage text or traceback."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class but reads it here

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"lockgate: {self.message}", file=file, err=True)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raise UserError in the place of an expected failure; what is not expected keeps its traceback."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if text := explain(error):
            raise UserError(text) from error
        raise


def explain(error: Exception) -> str | None:
    """Return what to tell a user about this error; None if it is not one that users can do something about."""
    import psycopg  # here: a supervisor lives for long, and does without it
    from psycopg import errors

    match error:
        case UserError():
            return error.message
        case subprocess.TimeoutExpired():
            return f"{Path(error.cmd[0]).name} takes longer than {error.timeout:.0f} s"
        case psycopg.Error() if (error.sqlstate or "").startswith("LG"):
            return error.diag.message_primary  # the schema's own words, about what was asked
        case errors.CheckViolation() if error.diag.table_name or error.diag.datatype_name:
            name = error.diag.constraint_name or ""
            return CONSTRAINTS.get(name) or name.replace("_", " ")
        case errors.CheckViolation() | errors.UniqueViolation():
            return error.diag.message_primary
        case psycopg.DataError():
            detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
            return f"the database does not take this: {error.diag.message_primary or _first_line(error)}{detail}"
        case errors.UndefinedFunction() | errors.InvalidSchemaName():
            return "there is no Lockgate schema in this database; run `lockgate migrate`"
        case errors.InsufficientPrivilege():
            return f"the login of DATABASE_URL may not do this: {_first_line(error)}"
        case psycopg.OperationalError() if error.sqlstate is None:
            return f"the database cannot be reached: {_first_line(error)}"
        case psycopg.OperationalError():
            return f"the database refuses: {_first_line(error)}"
        case psycopg.ProgrammingError() if error.sqlstate is None:
            # libpq's own words would repeat the text, and with it perhaps a password.
            return "DATABASE_URL is not a connection string: expected postgresql://user:password@host:port/database"
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
