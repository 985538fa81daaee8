"""The option of every program of the service for its database."""

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from lockgate.options import database_url


def is_database_url(text: str) -> bool:
    """Whether libpq can read this as a connection string; it may still lead nowhere."""
    try:
        return bool(conninfo_to_dict(text))
    except ProgrammingError:
        return False


DATABASE_URL = database_url(
    "Where Postgres is.", is_one=is_database_url, form="postgresql://user:password@host:5432/database"
)
