"""The Postgres the tests run on: the first rung of the ladder that holds.

1. TEST_DATABASE_URL, a server of yours (its login may create databases and roles; the database's name says "test");
2. a container of postgres:18, where Docker answers and has the image or can pull it within a minute;
3. the embedded server that `lockgate up` uses.

REQUIRE_DOCKER=1 allows the second only. Which one it is, is decided when pytest starts and printed in its header;
nothing is started before a test asks for it.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

docker: Any = import_module("docker")  # ships no types

IMAGE = "postgres:18"
PULL_SECONDS_MAX = 60

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
            raise RuntimeError(f"REQUIRE_DOCKER=1, and Docker does not answer or can not have the image {IMAGE}")
        return Rung(f"container {IMAGE}, PostgreSQL {version}", container())
    if dsn := os.environ.get("TEST_DATABASE_URL"):
        return Rung(f"TEST_DATABASE_URL, PostgreSQL {given_version(dsn)}", given(dsn))
    if version := docker_version():
        return Rung(f"container {IMAGE}, PostgreSQL {version}", container())
    return Rung("embedded", embedded())


def given_version(dsn: str) -> str:
    name = conninfo_to_dict(dsn).get("dbname") or ""
    if "test" not in str(name):
        raise RuntimeError(
            f'TEST_DATABASE_URL names the database "{name}": only one with "test" in its name is touched'
        )
    with psycopg.connect(dsn) as conn:
        return conn.info.parameter_status("server_version") or "?"


@contextmanager
def given(dsn: str) -> Iterator[str]:
    yield dsn


def docker_version() -> str | None:
    """The version of Postgres in the image, or None where Docker does not answer or can not have the image."""
    try:
        client = docker.from_env(timeout=10)
    except docker.errors.DockerException:
        return None
    try:
        try:
            image = client.images.get(IMAGE)
        except docker.errors.ImageNotFound:
            image = pulled(IMAGE)
        if image is None:
            return None
        env = dict(line.split("=", 1) for line in image.attrs["Config"]["Env"])
        return str(env.get("PG_VERSION", "?")).split("-")[0]
    except (docker.errors.DockerException, OSError):
        return None
    finally:
        client.close()


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


@contextmanager
def container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.core.config import testcontainers_config

    # Ryuk removes the container of a test run that was killed. Where its image is not at hand, do without.
    client = docker.from_env()
    try:
        client.images.get(testcontainers_config.ryuk_image)
    except docker.errors.DockerException:
        testcontainers_config.ryuk_disabled = True
    finally:
        client.close()

    server: Any = PostgresContainer(IMAGE, driver=None)
    server.with_command(["postgres", *(f"-c{name}={value}" for name, value in THROW_AWAY.items())])
    with server:
        yield server.get_connection_url()
    server.get_docker_client().client.close()


@contextmanager
def embedded() -> Iterator[str]:
    from lockgate.embedded import Server

    # A short path: a socket's name has to fit into 107 bytes.
    folder = tempfile.mkdtemp(prefix="lg-", dir="/tmp")
    server = Server(Path(folder) / "data", settings=dict(THROW_AWAY))
    try:
        server.start()
        try:
            yield server.dsn("lockgate", "postgres")
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
