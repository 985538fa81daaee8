"""The Postgres the tests run on: the first rung of the ladder that holds.

1. TEST_DATABASE_URL, a server of yours (its login may create databases and roles; the database's name says "test");
2. a container of postgres:18, where Docker answers and has the image or can pull it within a minute;
3. the embedded server that `lockgate up` uses.

REQUIRE_DOCKER=1 allows the second only. Which one it is, is decided when pytest starts and printed in its header;
nothing is started before a test asks for it.
"""

import gc
import os
import subprocess
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from lockgate.postgres import binaries
from lockgate.postgres.server import Server

docker: Any = import_module("docker")  # ships no types

IMAGE = "postgres:18"
PULL_SECONDS_MAX = 60

DISK = Path("/tmp")  # noqa: S108  folders of our own are made there
MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else DISK  # noqa: S108  a database per test is 300 files

# Speed, at the price of the data when the machine goes down: for servers that are thrown away anyway. Commits stay
# synchronous as the functions of schema.sql set it.
THROW_AWAY: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "max_connections": "300"}


@dataclass(frozen=True)
class Rung:
    """A server that can be had: what the header says about it, and how to start it (the DSN of its administrator)."""

    label: str
    start: AbstractContextManager[str]


def choose() -> Rung:
    if os.environ.get("REQUIRE_DOCKER") == "1":
        version = docker_version()
        if version is None:
            raise pytest.UsageError(f"REQUIRE_DOCKER=1, and Docker does not answer or can not have the image {IMAGE}")
        return Rung(f"container {IMAGE}, PostgreSQL {version}", container())
    if dsn := os.environ.get("TEST_DATABASE_URL"):
        return Rung(f"TEST_DATABASE_URL, PostgreSQL {given_version(dsn)}", given(dsn))
    if version := docker_version():
        return Rung(f"container {IMAGE}, PostgreSQL {version}", container())
    return Rung(f"embedded, {embedded_version()}", embedded())


def given_version(dsn: str) -> str:
    name = conninfo_to_dict(dsn).get("dbname") or ""
    if "test" not in str(name):
        raise pytest.UsageError(
            f'TEST_DATABASE_URL names the database "{name}": only one with "test" in its name is touched'
        )
    with psycopg.connect(dsn) as conn:
        return conn.info.parameter_status("server_version") or "?"


@contextmanager
def given(dsn: str) -> Iterator[str]:
    yield dsn


def docker_version() -> str | None:
    """The version of Postgres in the image, or None where Docker does not answer or can not have the image."""
    client = None
    with suppress(docker.errors.DockerException):
        client = docker.from_env(timeout=10)
    if client is None:
        forget_refused_client()
        return None
    try:
        try:
            image = client.images.get(IMAGE)
        except docker.errors.ImageNotFound:
            image = pulled(IMAGE)
        if image is None:
            return None
        env = dict(line.split("=", 1) for line in image.attrs["Config"]["Env"])
        if "PG_VERSION" in env:  # said by the official image, which spares us a container
            return str(env["PG_VERSION"]).split("-")[0]
        said = client.containers.run(image, ["--version"], entrypoint="postgres", remove=True)
        return str(said.decode().split()[-1])
    except (docker.errors.DockerException, OSError):
        return None
    finally:
        client.close()


def forget_refused_client() -> None:
    """It leaves its socket open, which would be held against some test."""
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


def pulled(name: str) -> Any | None:
    """Pulls an image. The client has no limit for the whole pull, so a thread does it that may be left behind."""
    images: list[Any] = []

    def pull() -> None:
        client = docker.from_env(timeout=PULL_SECONDS_MAX)
        try:
            images.append(client.images.pull(name))
        except (docker.errors.DockerException, OSError):
            return
        finally:
            client.close()

    thread = threading.Thread(target=pull, name="pull", daemon=True)
    thread.start()
    thread.join(PULL_SECONDS_MAX)
    return images[0] if images else None


def do_without_ryuk_where_it_is_not() -> None:
    """It removes the containers of a test run that was killed. Where its image is not at hand, nobody does."""
    from testcontainers.core.config import testcontainers_config

    client = docker.from_env()
    try:
        client.images.get(testcontainers_config.ryuk_image)
    except docker.errors.DockerException:
        testcontainers_config.ryuk_disabled = True
    finally:
        client.close()


@contextmanager
def container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer

    do_without_ryuk_where_it_is_not()
    server: Any = PostgresContainer(IMAGE, driver=None)
    # In memory, because a clone is 300 small files.
    server.with_env("PGDATA", "/dev/shm/pgdata").with_kwargs(shm_size="4g")  # noqa: S108  the container's own
    server.with_command(["postgres", *(f"-c{name}={value}" for name, value in THROW_AWAY.items())])
    with server:
        yield server.get_connection_url()
    server.get_docker_client().client.close()


def embedded_version() -> str:
    said = subprocess.run(
        [binaries.find() / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    return f"PostgreSQL {said.split()[-1]}"


@contextmanager
def embedded() -> Iterator[str]:
    with of_its_own(THROW_AWAY, MEMORY) as server:
        yield server.dsn(database="postgres")


@contextmanager
def folder(where: Path = DISK) -> Iterator[Path]:
    """An empty one that a server may be started in."""
    with TemporaryDirectory(prefix="lockgate-test-", dir=where) as name:
        Path(name).chmod(0o755)  # started by root, the server is another user
        yield Path(name)


@contextmanager
def of_its_own(settings: Mapping[str, str] = {}, where: Path = DISK, binaries: Path | None = None) -> Iterator[Server]:
    """An embedded server. `binaries`: the folder of another installation's programs."""
    with folder(where) as home, Server(home / "data", settings=settings, binaries=binaries) as server:
        yield server
