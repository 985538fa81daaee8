"""A database per test, cloned from a template that has schema.sql and a login for each role."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

Role = Literal["admin", "owner", "service", "runner", "viewer"]
LOGINS: tuple[Role, ...] = ("owner", "service", "runner", "viewer")
PASSWORD = "x"
SCHEMA = Path(__file__).parent.parent / "schema.sql"


@dataclass
class Database:
    """DSNs of logins with exactly the rights of their role. `owner` owns the schema and is no superuser."""

    name: str
    admin: str
    owner: str
    service: str
    runner: str
    viewer: str
    connections: list[psycopg.Connection[Any]] = field(default_factory=list, repr=False)

    def connect(self, role: Role = "owner") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in autocommit, closed when the test ends."""
        conn = psycopg.connect(getattr(self, role), autocommit=True)
        self.connections.append(conn)
        return conn

    def query(self, text: str, *args: Any) -> list[tuple[Any, ...]]:
        """What a statement returns; by the administrator, who sees and may do everything."""
        if self._eye is None:
            self._eye = self.connect("admin")
        cursor = self._eye.execute(text, args or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, text: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        rows = self.query(text, *args)
        return rows[0][0] if rows else None

    def end_sessions(self) -> None:
        """Ends every session but the one this is said on, whatever it waits for."""
        self.query(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        for conn in self.connections:
            conn.close()

    _eye: psycopg.Connection[tuple[Any, ...]] | None = field(default=None, repr=False)


@dataclass
class Template:
    """Makes databases. Names carry the pytest process, so that runs side by side on one server do not meet."""

    admin: str
    prefix: str
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def clone(self) -> Iterator[Database]:
        name = f"{self.prefix}_{next(self.numbers)}"
        with psycopg.connect(self.admin, autocommit=True) as conn:
            create = sql.SQL("create database {} template {} strategy wal_log owner {}")
            conn.execute(create.format(*map(sql.Identifier, (name, self.prefix, f"{self.prefix}_owner"))))
            db = self.database(name)
            try:
                yield db
            finally:
                db.close()
                conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def database(self, name: str) -> Database:
        options = str(conninfo_to_dict(self.admin).get("options") or "")
        dsn = {
            role: make_conninfo(self.admin, dbname=name, user=f"{self.prefix}_{role}", password=PASSWORD)
            for role in LOGINS
        }
        admin = make_conninfo(self.admin, dbname=name, options=f"{options} -c search_path=lockgate,public".strip())
        return Database(name, admin, dsn["owner"], dsn["service"], dsn["runner"], dsn["viewer"])


@contextmanager
def template(admin: str) -> Iterator[Template]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    made = Template(admin, f"lockgate_test_{worker}_{os.getpid()}")
    db = made.database(made.prefix)
    with psycopg.connect(admin, autocommit=True) as conn:
        try:
            create_roles(conn, made.prefix)
            create = sql.SQL("create database {} owner {}")
            conn.execute(create.format(sql.Identifier(made.prefix), sql.Identifier(f"{made.prefix}_owner")))
            with psycopg.connect(db.owner) as owner:
                owner.execute(SCHEMA.read_text())
            yield made
        finally:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(made.prefix)))
            for role in LOGINS:
                conn.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(f"{made.prefix}_{role}")))


def create_roles(conn: psycopg.Connection[Any], prefix: str) -> None:
    """The group roles schema.sql grants to, which the whole server shares, and this run's logins as their members."""
    for role in LOGINS:
        login = sql.Identifier(f"{prefix}_{role}")
        conn.execute(sql.SQL("create role {} login password {}").format(login, sql.Literal(PASSWORD)))
        conn.execute(sql.SQL("alter role {} set search_path = lockgate, public").format(login))
        # An administrator who is no superuser needs this to create databases for the owner, and to end its sessions.
        conn.execute(sql.SQL("grant {} to current_user").format(login))
        if role == "owner":
            conn.execute(sql.SQL("alter role {} createrole").format(login))
            continue
        group = sql.Identifier(f"lockgate_{role}")
        # By an earlier run, perhaps, or by one beside us.
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            conn.execute(sql.SQL("create role {} nologin").format(group))
        conn.execute(sql.SQL("grant {} to {}").format(group, login))
