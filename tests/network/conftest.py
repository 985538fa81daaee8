"""A scene for a whole module. Where there can be none its tests are skipped; with REQUIRE_NETNS=1 they fail."""

import os
from collections.abc import Iterator

import pytest

from tests.network.network import NoNetwork
from tests.network.scene import Scene, scene


@pytest.fixture(scope="module", name="scene")
def fixture() -> Iterator[Scene]:
    try:
        made = scene()
        it = made.__enter__()
    except NoNetwork as why:
        if os.environ.get("REQUIRE_NETNS") == "1":
            pytest.fail(f"REQUIRE_NETNS=1, and there can be no network of the tests' own: {why}")
        pytest.skip(f"no network of the tests' own: {why}")
    try:
        yield it
    finally:
        for runner in it.runners:
            print(f"--- runner {runner.pid}:")  # noqa: T201 - pytest shows it when a test failed
            for line in runner.lines:
                print(*(f"{k}={v}" for k, v in line.items() if k not in ("level", "runner")))  # noqa: T201
            print(*runner.noise)  # noqa: T201
        made.__exit__(None, None, None)
