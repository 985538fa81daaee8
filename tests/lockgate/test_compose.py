"""compose.yaml beside the programs it starts; what it does on an engine is in tests/containers."""

import re
from pathlib import Path

import click
import pytest

from lockgate.__main__ import main as lockgate

TEXT = (Path(__file__).parents[2] / "compose.yaml").read_text()

ITS_OWN = {"DATABASE_URL", "LOCKGATE_AMQP_URL", "LOCKGATE_PORT"}
"""What compose.yaml has no use for: it hands URLs over as files, and publishes the port elsewhere."""

PROGRAMS = [("service", "serve"), ("runner", "run"), ("intake", "intake"), ("publish", "publish")]
"""Services of compose.yaml, and the command of each."""


def part(service: str) -> str:
    """The lines of a service."""
    found = re.search(rf"^  {service}:\n((?:    .*\n|\n)+)", TEXT, re.MULTILINE)
    assert found, service
    return found[1]


def options(command: str) -> dict[str, click.Parameter]:
    """Those of a command, by their variables."""
    found = lockgate.get_command(click.Context(lockgate), command)
    assert found
    return {str(option.envvar): option for option in found.params if option.envvar}


@pytest.mark.parametrize(("service", "command"), PROGRAMS)
def test_every_setting_of_a_program_reaches_it(service: str, command: str) -> None:
    """Or one in .env would be silently ignored."""
    assert options(command).keys() - ITS_OWN <= set(re.findall(r"^      (LOCKGATE_\w+):", part(service), re.MULTILINE))


@pytest.mark.parametrize(("service", "command"), PROGRAMS)
def test_it_says_no_setting_that_there_is_not(service: str, command: str) -> None:
    said = set(re.findall(r"^      (LOCKGATE_\w+):", part(service), re.MULTILINE))
    assert said <= options(command).keys() | {"LOCKGATE_HANDLERS", "LOCKGATE_AMQP_URL_FILE"}


def test_a_runner_is_given_longer_than_it_takes_to_stop() -> None:
    found = re.search(r"stop_grace_period: (\d+)s", part("runner"))
    assert found
    limits = options("run")
    own = sum(float(str(limits[name].default)) for name in ("LOCKGATE_SHUTDOWN_TIMEOUT", "LOCKGATE_KILL_AFTER"))
    assert int(found[1]) >= own + 10


def test_there_is_no_password_in_it() -> None:
    assert re.findall(r"(\w*PASSWORD\w*): (.*)", TEXT) == [
        ("POSTGRES_PASSWORD_FILE", "/run/lockgate/admin/password"),
        ("LOCKGATE_LOGIN_PASSWORD_FILE", "/run/lockgate/{login}/password"),
    ]
