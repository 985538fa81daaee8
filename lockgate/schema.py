"""Puts schema.sql into a database, and makes logins for it."""

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from psycopg import errors, sql

LIMIT = 60.0  # seconds for the whole of apply or create_logins
CONNECT_LIMIT = 10  # seconds

# Who may do what through a login: the group roles of schema.sql it is a member of. `operator` is for people.
LOGINS = {
    "service": ["lockgate_service"],
    "runner": ["lockgate_runner"],
    "viewer": ["lockgate_viewer"],
    "operator": ["lockgate_service", "lockgate_viewer"],
}


def text() -> bytes:
    """Return schema.sql: of the installed package, else of the checkout. Raises FileNotFoundError."""
    here = Path(__file__).parent
    for place in (here / "schema.sql", here.parent / "schema.sql"):
        if place.exists():
            return place.read_bytes()
    raise FileNotFoundError("schema.sql is neither in the package lockgate nor beside it")


def version_of(schema: bytes) -> int:
    """Return the version that this text of schema.sql brings a database to. Raises ValueError."""
    found = re.search(rb"v_current constant int := (\d+);", schema)
    if not found:
        raise ValueError("schema.sql does not say its version")
    return int(found[1])


VERSION = version_of(text())


def version(connection: psycopg.Connection) -> int:
    """Return the version of the schema in this database; 0 = there is none. Takes no lock that anyone waits for."""
    try:
        row = connection.execute("select lockgate.schema_version()").fetchone()
    except (errors.InvalidSchemaName, errors.UndefinedFunction):
        return 0
    return int(row[0]) if row else 0


def apply(dsn: str) -> int:
    """Bring the database to this package's schema; its version after that. Touches nothing when it is current.

    A newer schema is left as it is: functions are only ever added. Raises psycopg.Error.
    """
    with _connect(dsn) as connection:
        for attempt in _attempts():
            if (found := version(connection)) >= VERSION:
                return found
            try:
                connection.execute(text())
            except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
                attempt(error)
        return version(connection)


def create_logins(dsn: str, password: str | Callable[[str], str], prefix: str = "lockgate_app") -> dict[str, str]:
    """Make the login roles of one application, or set them right: {"service": "<prefix>_service", ...} of LOGINS.

    `password`: one for all of them, or a function from the login's name to its own. Logins belong to the cluster, so
    others may be doing this at the same time from other databases. Raises psycopg.Error.
    """
    names = {use: f"{prefix}_{use}" for use in LOGINS}
    with _connect(dsn) as connection:
        for use, name in names.items():
            # Hashed here, so that the password itself is in no statement and in no log.
            hashed = connection.pgconn.encrypt_password(
                (password if isinstance(password, str) else password(name)).encode(), name.encode(), b"scram-sha-256"
            ).decode()
            for attempt in _attempts():
                try:
                    _create_login(connection, name, hashed, LOGINS[use])
                except (errors.InternalError_, errors.UniqueViolation, errors.DuplicateObject) as error:
                    attempt(error)  # "tuple concurrently updated": somebody else is at the same role
    return names


def _create_login(connection: psycopg.Connection, name: str, hashed: str, groups: list[str]) -> None:
    role = sql.Identifier(name)
    with connection.transaction():
        if connection.execute("select from pg_roles where rolname = %s", [name]).fetchone() is None:
            connection.execute(sql.SQL("create role {}").format(role))
        connection.execute(sql.SQL("alter role {} login password {}").format(role, hashed))
        for group in groups:
            member = "select from pg_auth_members where roleid = %s::regrole and member = %s::regrole"
            if connection.execute(member, [group, name]).fetchone() is None:
                connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), role))
        connection.execute(
            sql.SQL("alter role {} in database {} set search_path = lockgate, public").format(
                role, sql.Identifier(connection.info.dbname)
            )
        )


def _connect(dsn: str) -> psycopg.Connection:
    connection = psycopg.connect(dsn, connect_timeout=CONNECT_LIMIT, autocommit=True)
    connection.execute("select set_config('statement_timeout', '30s', false), set_config('lock_timeout', '5s', false)")
    return connection


def _attempts() -> Iterator[Callable[[Exception], None]]:
    """Yield once, and again, after a jittered pause, for each failure that was reported to what was yielded.

    Reported later than LIMIT seconds after the first attempt, a failure is raised again.
    """
    end = time.monotonic() + LIMIT
    pause = 0.05
    failed = True

    def report(error: Exception) -> None:
        nonlocal failed
        failed = True
        if time.monotonic() > end:
            raise error

    while failed:
        failed = False
        yield report
        if failed:
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  it keeps rivals apart, no secret
            pause = min(pause * 2, 2.0)
