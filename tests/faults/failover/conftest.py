"""Pairs of servers in memory that end with their test."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lockgate.schema import apply
from lockgate.witness import Witness
from tests import server
from tests.faults.failover.pair import Pair


@contextmanager
def pair_of(synchronous: bool) -> Iterator[Pair]:
    """With the schema. Without fsync: what is killed here are processes, and the kernel keeps what they wrote."""
    with server.folder(server.MEMORY) as folder, Pair(folder, synchronous, {"fsync": "off"}) as pair:
        apply(pair.primary.dsn())
        yield pair


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of(synchronous=True) as made:
        yield made


@pytest.fixture
def asynchronous_pair() -> Iterator[Pair]:
    with pair_of(synchronous=False) as made:
        yield made


@pytest.fixture
def witness() -> Iterator[Witness]:
    with Witness() as it:
        yield it
