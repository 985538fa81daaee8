"""Runners and a service, for what the documentation says to do with them."""

from collections.abc import Iterator

import pytest

from tests.contract import until
from tests.database import Database
from tests.runner.conftest import start, witness
from tests.service.conftest import running

__all__ = ["service", "start", "witness"]


@pytest.fixture
def service(db: Database) -> Iterator[str]:
    """host:port of a service that is ready."""
    with running(db.service) as client:
        until(lambda: client.get("/health/ready").status_code == 200, "the service to be ready")
        yield f"{client.base_url.host}:{client.base_url.port}"
