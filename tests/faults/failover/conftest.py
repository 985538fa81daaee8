"""Pairs of servers in memory that end with their test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lockgate.local.witness import Witness
from lockgate.schema import apply
from tests.faults.failover.pair import Pair

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  a folder of our own is made there


@contextmanager
def pair_of(synchronous: bool) -> Iterator[Pair]:
    """With the schema. Without fsync: what is killed here are processes, and the kernel keeps what they wrote."""
    with TemporaryDirectory(prefix="lockgate-failover-", dir=MEMORY) as name:
        folder = Path(name)
        folder.chmod(0o755)  # started by root, the servers are another user
        with Pair(folder, synchronous, {"fsync": "off"}) as pair:
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
