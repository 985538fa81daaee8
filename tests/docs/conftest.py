"""Runners and a service, for what the documentation says to do with them."""

from collections.abc import Iterator

import pytest

from tests.database import Database
from tests.runner.conftest import start, witness
from tests.service.conftest import running, until_ready

__all__ = ["service", "start", "witness"]


@pytest.fixture
def service(db: Database) -> Iterator[str]:
    """host:port of a service that is ready."""
    with running(db.service) as client:
        until_ready(client)
        yield f"{client.base_url.host}:{client.base_url.port}"
