"""Expected failures, each said in one line without a traceback."""

import subprocess
from pathlib import Path

import psycopg

from lockgate.binaries import EmbeddedError
from lockgate.stack import StackError


def one_line(error: Exception) -> str | None:
    """Return what to tell a user about this error; None if it is not one that users can do something about."""
    match error:
        case EmbeddedError() | StackError():
            return str(error)
        case subprocess.TimeoutExpired():
            return f"{Path(error.cmd[0]).name} takes longer than {error.timeout:.0f} s"
        case psycopg.errors.InsufficientPrivilege():
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
