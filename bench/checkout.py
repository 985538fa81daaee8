"""One commit of Lockgate in a folder, driven from outside: by its commands, over HTTP and in SQL."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from bench import machine
from lockgate.postgres.server import Server

LOGINS = ("service", "runner", "viewer", "operator")


class Checkout:
    """A checkout that is installed into ``.venv`` in its folder.

    Raises:
        click.ClickException: nothing is installed there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.python = self.folder / ".venv/bin/python"
        if not self.python.exists():
            raise click.ClickException(f"{self.folder} has no .venv; run `uv sync` there")

    @property
    def commit(self) -> str:
        """The short name of its commit, with a plus sign where files differ from it."""
        changed = self._git("status", "--porcelain", "--untracked-files=no")
        return self._git("rev-parse", "--short", "HEAD") + ("+" if changed else "")

    def versions(self) -> str:
        """Python's version and those of the packages that its speed depends on."""
        script = f"import sys, importlib.metadata as m; print(sys.version, *map(m.version, {machine.PACKAGES}))"
        return subprocess.run([self.python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    def package(self, program: str) -> str:
        """The import name of the package of the ``runner`` or the ``service``; both had no prefix until 07ec170."""
        name = f"lockgate_{program}"
        return name if (self.folder / program / name).is_dir() else program

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The environment for a program of this checkout: these settings, and none of ours."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LOCKGATE_", "PYTHON"))}
        return inherited | {"LOCKGATE_LOG_FORMAT": "json"} | dict(settings)

    def migrate(self, server: Server) -> dict[str, str]:
        """Runs its ``lockgate migrate`` on a new server; the URL of each login, and of the owner.

        Raises:
            click.ClickException: the command failed; with what it printed.
        """
        logins = {use: f"lockgate_app_{use}" for use in LOGINS}
        with tempfile.TemporaryDirectory() as folder:
            for use, login in logins.items():
                (Path(folder) / use).write_text(server.password(login))
            command = [str(self.python), "-P", "-m", "lockgate", "migrate", "--database-url", server.dsn()]
            done = subprocess.run(
                [*command, "--login-password-file", f"{folder}/{{login}}"],
                env=self.environment({}), cwd=folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise click.ClickException(f"lockgate migrate in {self.folder}: {done.stdout}{done.stderr}")
        return {use: server.dsn(login) for use, login in logins.items()} | {"owner": server.dsn()}

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
