"""A database per test, cloned from a template that has schema.sql and a login for each role."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate import schema

Role = Literal["admin", "owner", "service", "runner", "viewer"]
PASSWORD = "x"


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
        # Not `description`, which is None for rows without columns too.
        has_rows = cursor.pgresult is not None and cursor.pgresult.status == pq.ExecStatus.TUPLES_OK
        return cursor.fetchall() if has_rows else []

    def value(self, text: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        rows = self.query(text, *args)
        return rows[0][0] if rows else None

    def elsewhere(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection to another database of the same server."""
        return psycopg.connect(self.admin, dbname="postgres", autocommit=True)

    def end_sessions(self) -> None:
        """Ends every session but the one this is said on, whatever it waits for."""
        self.query(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()"
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
    conn: psycopg.Connection[Any]
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def clone(self) -> Iterator[Database]:
        name = f"{self.prefix}_{next(self.numbers)}"
        create = sql.SQL("create database {} template {} strategy wal_log owner {}")
        self.conn.execute(create.format(*map(sql.Identifier, (name, self.prefix, f"{self.prefix}_owner"))))
        db = self.database(name)
        try:
            yield db
        finally:
            db.close()
            # FORCE waits in steps of 100 ms for those it ends; most are about to end by themselves.
            deadline = time.monotonic() + 0.2
            sessions = "select 1 from pg_stat_activity where datname = %s"
            while self.conn.execute(sessions, (name,)).fetchone() is not None and time.monotonic() < deadline:
                time.sleep(0.002)
            self.conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def database(self, name: str) -> Database:
        options = str(conninfo_to_dict(self.admin).get("options") or "")
        dsn = {
            role: make_conninfo(self.admin, dbname=name, user=f"{self.prefix}_{role}", password=PASSWORD)
            for role in ("owner", *schema.LOGINS)
        }
        admin = make_conninfo(self.admin, dbname=name, options=f"{options} -c search_path=lockgate,public".strip())
        return Database(name, admin, dsn["owner"], dsn["service"], dsn["runner"], dsn["viewer"])


@contextmanager
def template(admin: str) -> Iterator[Template]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    with psycopg.connect(admin, autocommit=True) as conn:
        made = Template(admin, f"lockgate_test_{worker}_{os.getpid()}", conn)
        db = made.database(made.prefix)
        try:
            create_owner(conn, f"{made.prefix}_owner")
            create = sql.SQL("create database {} owner {}")
            conn.execute(create.format(sql.Identifier(made.prefix), sql.Identifier(f"{made.prefix}_owner")))
            schema.apply(db.owner)
            # Every connection of every test pays for each round of hashing.
            if conn.info.server_version >= 160000:
                conn.execute("set scram_iterations = 1")
            for login in schema.create_logins(db.admin, PASSWORD, made.prefix).values():
                password = sql.SQL("alter role {} password {}").format(sql.Identifier(login), sql.Literal(PASSWORD))
                conn.execute(password)
                # An administrator who is no superuser may end the sessions of roles it is a member of.
                conn.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(login)))
                # Again for every database: what it was told for this one is not cloned.
                conn.execute(sql.SQL("alter role {} set search_path = lockgate, public").format(sql.Identifier(login)))
            yield made
        finally:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(made.prefix)))
            for role in ("owner", *schema.LOGINS):
                conn.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(f"{made.prefix}_{role}")))


def create_owner(conn: psycopg.Connection[Any], name: str) -> None:
    """Who owns the schema: no superuser, so that nothing in it works only by being one."""
    # The whole server shares these; an earlier run has made them, perhaps, or one beside us.
    for group in ("lockgate_service", "lockgate_runner", "lockgate_viewer"):
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            conn.execute(sql.SQL("create role {} nologin").format(sql.Identifier(group)))
    owner = sql.Identifier(name)
    conn.execute(sql.SQL("create role {} login createrole password {}").format(owner, sql.Literal(PASSWORD)))
    conn.execute(sql.SQL("alter role {} set search_path = lockgate, public").format(owner))
    # An administrator who is no superuser either needs this to make databases that belong to the owner.
    conn.execute(sql.SQL("grant {} to current_user").format(owner))
