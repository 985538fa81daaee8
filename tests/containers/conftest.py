"""The whole of compose.yaml on a real engine, once for all tests here, and gone after them."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from lockgate.witness import Witness
from tests.containers.compose import DOCKER, Compose, docker
from tests.docs.markdown import ROOT

IMAGES = ("python:3.13-slim", "postgres:18")
PULL_LIMIT = 300.0
RUNNERS = 4


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("containers")
            item.add_marker(pytest.mark.timeout(400))


def missing() -> str | None:
    """What these tests lack here, in words."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    for command, what in ((("info",), "the engine"), (("compose", "version"), "docker compose")):
        try:
            answers = subprocess.run([DOCKER, *command], capture_output=True, timeout=30, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            answers = False
        if not answers:
            return f"{what} does not answer"
    for image in IMAGES:
        for command in ("image", "inspect"), ("pull", "--quiet"):
            try:
                there = subprocess.run([DOCKER, *command, image], capture_output=True, timeout=PULL_LIMIT, check=False)
            except subprocess.TimeoutExpired:
                continue
            if there.returncode == 0:
                break
        else:
            return f"the image {image} is neither here nor can it be pulled"
    return None


@pytest.fixture(scope="package")
def engine() -> None:
    """A container engine; without one the tests are skipped, or fail where REQUIRE_DOCKER=1."""
    if why := missing():
        if os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail(f"REQUIRE_DOCKER=1, and {why}")
        pytest.skip(why)


@pytest.fixture(scope="package")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone would hold, and nothing that merely lies about in this folder."""
    folder = tmp_path_factory.mktemp("checkout")
    if not (ROOT / ".git").exists():  # unpacked from a source archive
        return shutil.copytree(ROOT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
    git = shutil.which("git") or "git"
    files = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in files.decode().split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="package")
def heard(engine: None) -> Iterator[Witness]:
    """A witness where containers reach it: on this machine's end of the engine's own network."""
    bridge = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
    gateway = bridge.get("Gateway") or str(ip_network(bridge["Subnet"])[1])  # some engines do not say
    with Witness(gateway) as witness:
        yield witness


@pytest.fixture(scope="package")
def built(checkout: Path, heard: Witness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The image, and nothing started yet."""
    scratch = tmp_path_factory.mktemp("scratch")
    scratch.chmod(0o777)
    compose = Compose(checkout, f"lockgate-test-{os.getpid()}", heard, scratch)
    try:
        compose("build", "--quiet", "secrets")
        yield compose
    finally:
        compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "10")
        docker("image", "rm", "--force", compose.image, check=False)


@pytest.fixture(scope="package")
def started(built: Compose) -> Compose:
    """As from a clean clone: `docker compose up --wait --scale runner=4`."""
    built.up("--scale", f"runner={RUNNERS}")
    return built


@pytest.fixture
def compose(started: Compose, request: pytest.FixtureRequest) -> Iterator[Compose]:
    """Four runners and a service, all well. What they said is shown when a test fails."""
    if len(started.alive()) != RUNNERS:
        started.scale(RUNNERS)
    failed = request.session.testsfailed
    yield started
    if request.session.testsfailed > failed:
        print(*started.logs()[-200:], sep="\n")  # noqa: T201 - pytest shows it when the test failed
