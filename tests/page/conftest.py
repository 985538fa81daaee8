"""The page in a real browser, over a service in a thread of this process and real runners.

Where there is no Chromium these tests are skipped; with REQUIRE_BROWSER=1 they fail.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from lockgate_service.auth.keys import SCOPES, Scope
from playwright.sync_api import Browser, Page, expect

from tests.contract import Contract
from tests.database import Database
from tests.page import chromium
from tests.page.watch import Watch
from tests.service.api_keys import make_key
from tests.service.conftest import runners, running, until_ready, witness

__all__ = ["runners", "witness"]

LIMIT = 60_000  # milliseconds: the machine may have much else to do
expect.set_options(timeout=LIMIT)

Look = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    try:
        chromium.executable()
    except chromium.NotHere as why:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, and {why}")
        pytest.skip(str(why))
    with chromium.started() as browser:
        yield browser


FAILED = """
insert into lockgate.task (queue, kind, status, create_time, run_at, start_time, finish_time, exec_time, attempt,
  max_attempts, turn, lease, runner, session, grace, payload, error)
select 'default', %s, 'failed', now(), now(), now(), now(), 1, 1, 3, lockgate.first_turn(1) + lease, lease, 'r', 1, 5,
  '{}', '{"type": "Boom", "message": "it went wrong"}'
from generate_series(1, %s) g, lateral (select nextval('lockgate.lease') + 0 * g as lease) l
"""


@dataclass(frozen=True)
class Site:
    """A service that is ready, and what is behind it."""

    q: Contract
    http: httpx.Client
    keys: dict[Scope, str]

    @property
    def db(self) -> Database:
        return self.q.db

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    @property
    def port(self) -> int:
        return int(self.http.base_url.port or 80)

    def fail(self, number: int, kind: str = "import") -> None:
        """So many have failed, just now."""
        self.db.query(FAILED, kind, number)


def served(q: Contract, stack: ExitStack, keys: dict[Scope, str], **settings: Any) -> Site:
    client = stack.enter_context(running(q.db.service, **settings))
    until_ready(client, settings.get("root_path", ""))
    return Site(q, client, keys)


@pytest.fixture
def site(q: Contract) -> Iterator[Site]:
    """Where nobody is asked for a key."""
    with ExitStack() as stack:
        yield served(q, stack, {})


@pytest.fixture
def guarded(q: Contract) -> Iterator[Site]:
    """Where a key is needed, and one of each scope, of that name."""
    keys = {scope: make_key(q.db, scope, scope) for scope in SCOPES}
    with ExitStack() as stack:
        yield served(q, stack, keys, published="0.0.0.0:8000")


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Over every page of the test, and at its end there was nothing."""
    watch = Watch()
    yield watch
    assert watch.verdict() == []


@pytest.fixture
def look(browser: Browser, watch: Watch) -> Iterator[Look]:
    """``look(url, **options)`` opens it in a browser of its own, which knows no cookie."""
    with ExitStack() as stack:

        def opened(url: str, phone: bool = False, **options: Any) -> Page:
            size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
            context = browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
            stack.callback(context.close)
            context.set_default_timeout(LIMIT)
            watch.over(context, url)
            page = context.new_page()
            page.goto(url)
            return page

        yield opened
