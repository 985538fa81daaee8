"""A scene for a whole module. Where there can be none its tests are skipped; with REQUIRE_NETNS=1 they fail."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NoReturn

import pytest

from tests.faults.network import scene as scenes
from tests.faults.network.network import NoNetwork
from tests.faults.network.scene import Scene


def unavailable(why: NoNetwork) -> NoReturn:
    """What becomes of a test where there can be no network of its own."""
    if os.environ.get("REQUIRE_NETNS") == "1":
        pytest.fail(f"REQUIRE_NETNS=1, and there can be no network of the tests' own: {why}")
    pytest.skip(f"no network of the tests' own: {why}")


@pytest.fixture(scope="package")
def stage() -> Iterator[Scene]:
    """The scene of all modules: its server is started once."""
    with ExitStack() as stack:
        try:
            it = stack.enter_context(scenes.scene())
        except NoNetwork as why:
            unavailable(why)
        yield it


@pytest.fixture(scope="module")
def scene(stage: Scene) -> Iterator[Scene]:
    """With no host and no runner yet."""
    yield stage
    for runner in stage.runners:
        print(f"--- runner {runner.pid}:")  # noqa: T201 - pytest shows it when a test failed
        for line in runner.lines:
            print(*(f"{k}={v}" for k, v in line.items() if k not in ("level", "runner")))  # noqa: T201
        print(*runner.noise)  # noqa: T201
    stage.clear()
