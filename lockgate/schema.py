"""Puts schema.sql and its chapters into a database, brings an older one forward, and makes logins for it."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import errors, sql

from lockgate.backoff import Backoff
from lockgate.errors import UserError

LIMIT = 60.0  # seconds for the whole of apply or create_logins
CONNECT_LIMIT = 10  # seconds

# The group roles of schema.sql that each login is a member of. `operator` is for people.
LOGINS = {
    "service": ["lockgate_service"],
    "runner": ["lockgate_runner"],
    "viewer": ["lockgate_viewer"],
    "operator": ["lockgate_service", "lockgate_viewer"],
}


@dataclass(frozen=True)
class Schema:
    """schema.sql with its chapters in place of their ``\\ir`` lines, and without the other psql commands."""

    folder: Path
    lines: list[tuple[str, str]]
    """Each line, with where it is from: ("create schema lockgate;", "schema.sql:62")."""
    roles_from: int
    """The first line after the last chapter: roles and grants, which may be executed again."""

    @property
    def text(self) -> str:
        """All of it. Execute it in one transaction, in an empty database."""
        return "".join(f"{line}\n" for line, _ in self.lines)

    @property
    def roles(self) -> str:
        return "".join(f"{line}\n" for line, _ in self.lines[self.roles_from :])

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def stamped(self) -> str:
        """The text, and a statement that records its digest."""
        return f"{self.text}update lockgate.release set digest = '{self.digest}';\n"  # noqa: S608  of hex digits

    @property
    def version(self) -> int:
        found = re.search(r"insert into lockgate\.release \(version\) values \((\d+)\);", self.text)
        if not found:
            raise ValueError("schema.sql does not say its version")
        return int(found[1])

    def place(self, position: int) -> str:
        """Return the file and line of this character of the text, counted from 1."""
        return self.lines[min(self.text.count("\n", 0, position - 1), len(self.lines) - 1)][1]


def load(folder: Path | None = None) -> Schema:
    """Read the schema in this folder; by default that of the installed package, else of the checkout.

    Raises: FileNotFoundError.
    """
    here = Path(__file__).parent
    found = [
        place for place in ([folder] if folder else [here / "sql", here.parent]) if (place / "schema.sql").exists()
    ]
    if not found:
        raise FileNotFoundError("schema.sql is neither in the package lockgate nor beside it")
    lines: list[tuple[str, str]] = []
    roles_from = 0
    for line, place in _lines(found[0], "schema.sql"):
        if line.startswith("\\ir "):
            lines += _lines(found[0], line.removeprefix("\\ir "))
            roles_from = len(lines)
        elif not line.startswith("\\"):
            lines.append((line, place))
    return Schema(found[0], lines, roles_from)


def _lines(folder: Path, name: str) -> list[tuple[str, str]]:
    return [(line, f"{name}:{n}") for n, line in enumerate((folder / name).read_text().splitlines(), 1)]


VERSION = load().version


def version(connection: psycopg.Connection) -> int | None:
    """Return the version of the schema in this database; None = there is none. Takes no lock that anyone waits for."""
    try:
        row = connection.execute("select lockgate.schema_version()").fetchone()
    except (errors.InvalidSchemaName, errors.UndefinedFunction):
        return None
    return int(row[0]) if row else None


def apply(dsn: str, schema: Schema | None = None) -> int:
    """Bring the database to this schema, and mend its roles and grants; return its version after that.

    A current schema is left alone but for grants that are missing. A newer one is left as it is: functions are only
    ever added. A login that does not own the schema only finds out whether there is something to do.

    Raises: psycopg.Error. UserError if the text of this version has changed, or names the line of a mistake in it.
    """
    schema = schema or load()
    with _connect(dsn) as connection:
        for attempt in _attempts():
            found = version(connection)
            if found is not None and (found > schema.version or (found == schema.version and not _owns(connection))):
                return found
            try:
                with connection.transaction():
                    # One applier at a time, and none that makes the others wait: without a lock within a second this
                    # fails whole and is tried again.
                    connection.execute("set local lock_timeout = '1s'")
                    connection.execute("select pg_advisory_xact_lock(1279721472, -1)")
                    _bring_forward(connection, schema)
                    _mend_roles(connection, schema)
            except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
                attempt(error)
        return version(connection) or 0


def _bring_forward(connection: psycopg.Connection, schema: Schema) -> None:
    if not connection.execute("select 1 from pg_namespace where nspname = 'lockgate'").fetchone():
        try:
            connection.execute(schema.stamped.encode())
        except psycopg.Error as error:
            if error.diag.statement_position is None:
                raise
            place = schema.place(int(error.diag.statement_position))
            raise UserError(f"{place}: {error.diag.message_primary}") from error
        return
    row = connection.execute("select version, digest from lockgate.release").fetchone()
    found, digest = row or (0, None)
    if found == schema.version and digest not in (None, schema.digest):
        raise UserError(
            f"the schema of this database is another version {found} than this program's. Before the first release "
            "there are no upgrades: `drop schema lockgate cascade` deletes it with all tasks, and `lockgate migrate` "
            "starts afresh"
        )
    for number in range(found + 1, schema.version + 1):
        connection.execute((schema.folder / "schema" / "migrations" / f"{number}.sql").read_bytes())
    if found < schema.version:
        connection.execute(
            "update lockgate.release set version = %s, digest = %s, applied_at = now()", (schema.version, schema.digest)
        )


def _mend_roles(connection: psycopg.Connection, schema: Schema) -> None:
    """Execute the roles and grants, and take it back if that changed nothing."""
    before = _rights(connection)
    with connection.transaction() as trial:
        connection.execute(schema.roles.encode())
        if _rights(connection) == before:
            raise psycopg.Rollback(trial)


def _rights(connection: psycopg.Connection) -> object:
    return connection.execute(
        """
        select array_agg(o || ' ' || coalesce(acl::text, '') order by o) from (
          select 'schema' as o, nspacl as acl from pg_namespace where nspname = 'lockgate'
          union all select 'relation ' || oid, relacl from pg_class where relnamespace = 'lockgate'::regnamespace
          union all select 'function ' || oid, proacl from pg_proc where pronamespace = 'lockgate'::regnamespace) r
        """
    ).fetchone()


def _owns(connection: psycopg.Connection) -> bool:
    text = "select pg_has_role(nspowner, 'usage') from pg_namespace where nspname = 'lockgate'"
    row = connection.execute(text).fetchone()
    return bool(row and row[0])


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
    backoff = Backoff(0.05, 2.0)
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
            time.sleep(backoff.next())
