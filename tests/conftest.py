"""A real Postgres, and for each test a database of its own. Run `pytest` and read the header: it says which server."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockgate.postgres.server import Server
from lockgate.schema import apply
from tests import server
from tests.contract import Contract, Session, Threads, until
from tests.database import Database, Template, template

RUNG = pytest.StashKey[server.Rung]()

STARTED_ONCE = {"amqp", "containers", "network", "page", "pgbouncer"}
"""Folders of tests that start one big thing for all of them."""

ON_THE_NETWORK = {"amqp", "containers", "network", "page"}
"""Folders of tests that make network devices, as containers do, and of those in a browser, which drops what it loads
when a device comes or goes: one after the other."""


LONG = ("containers", "page", "amqp", "network", "lockgate", "service", "pgbouncer", "faults", "runner")
"""Folders in the order of how long their tests hold a process up. Long ones first: at the end, short ones fill up
what is left."""


def pytest_configure(config: pytest.Config) -> None:
    # Shells start background jobs with Ctrl-C ignored, and what is ignored is inherited by all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.option.collectonly:
        config.stash[RUNG] = server.choose()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In several processes (`-n 2`), tests that share what they start stay together, in the order of LONG."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0])
            if file.parent.name in ON_THE_NETWORK:
                return "on the network"
            return str(file.parent if file.parent.name in STARTED_ONCE else file)

    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes
        places = {folder: place for place, folder in enumerate(LONG)}
        items.sort(key=lambda item: min(places.get(part, len(LONG)) for part in item.nodeid.split("/")))


def pytest_report_header(config: pytest.Config) -> str:
    rung = config.stash.get(RUNG, None)
    return f"server: {rung.label if rung else 'none, only collecting'}"


@pytest.fixture(scope="session")
def pg_server(pytestconfig: pytest.Config) -> Iterator[str]:
    """The DSN of the administrator of the server."""
    with pytestconfig.stash[RUNG].start as dsn:
        yield dsn


@pytest.fixture(scope="session")
def pg_template(pg_server: str) -> Iterator[Template]:
    with template(pg_server) as made:
        yield made


@pytest.fixture
def db(pg_template: Template) -> Iterator[Database]:
    """A database with schema.sql applied and nothing in it but the queue `default`."""
    with pg_template.clone() as clone:
        yield clone


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server of the test's own, that it may restart. fsync stays on."""
    with server.of_its_own() as own:
        apply(own.dsn("lockgate"))
        yield own


@pytest.fixture
def q(db: Database) -> Contract:
    return Contract(db)


@pytest.fixture
def threads(db: Database) -> Iterator[Threads]:
    """For rivals: `threads.start(call)` gives a Future. The database goes first when a test fails, so none hangs."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        yield Threads(pool)
        db.end_sessions()


@pytest.fixture
def blocked_by(db: Database) -> Callable[[Session | psycopg.Connection[Any], Session | psycopg.Connection[Any]], None]:
    """Waits until the server says that the first session (or connection) waits for the second."""

    def wait(rival: Session | psycopg.Connection[Any], holder: Session | psycopg.Connection[Any]) -> None:
        waiting, waited_for = (who.pid if isinstance(who, Session) else who.info.backend_pid for who in (rival, holder))
        until(lambda: db.value("select %s = any (pg_blocking_pids(%s))", waited_for, waiting), "the rival to wait")

    return wait
