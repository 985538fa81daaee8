"""Databases whose service has the address of a pooler. Runners and the tests themselves go straight to the server."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from lockgate import schema
from tests.database import PASSWORD, Database, Role, Template
from tests.pgbouncer.pooler import NotHere, Pooler, pooler, required
from tests.service.conftest import http, process, refusing, runners, shared, start, witness

__all__ = ["http", "process", "refusing", "runners", "shared", "start", "witness"]


@dataclass
class PooledDatabase(Database):
    """`service` leads through the pooler."""

    direct: str = ""

    def connect(self, role: Role = "owner") -> psycopg.Connection[tuple[Any, ...]]:
        if role != "service":
            return super().connect(role)
        conn = psycopg.connect(self.direct, autocommit=True)
        self.connections.append(conn)
        return conn


@dataclass
class PooledTemplate(Template):
    """Makes them."""

    pooler: Pooler | None = None

    def database(self, name: str) -> Database:
        made = super().database(name)
        if self.pooler is None:
            return made
        known = {field.name: getattr(made, field.name) for field in fields(Database) if field.init}
        known["service"] = self.pooler.before(made.service)
        return PooledDatabase(**known, direct=made.service)


@pytest.fixture(scope="session")
def pg_template(pg_template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PooledTemplate]:
    """Skips, saying why, where there is no PgBouncer; fails there if REQUIRE_DOCKER=1."""
    made = PooledTemplate(pg_template.admin, pg_template.prefix, pg_template.conn, pg_template.numbers)
    logins = {str(conninfo_to_dict(getattr(made.database(made.prefix), use))["user"]): PASSWORD for use in ROLES}
    try:
        with pooler(tmp_path_factory.mktemp("pgbouncer"), made.admin, logins) as made.pooler:
            yield made
    except NotHere as why:
        if required():
            pytest.fail(f"REQUIRE_DOCKER=1, and {why}")
        pytest.skip(str(why))


@pytest.fixture
def pgbouncer(pg_template: PooledTemplate) -> Pooler:
    assert pg_template.pooler
    return pg_template.pooler


ROLES = ("service", "runner", "viewer")
assert set(ROLES) < set(schema.LOGINS)
