"""``python -m tests.versions [MAJOR ...]``: the contract and runner processes on every PostgreSQL this machine has.

The wheel of the embedded server brings two, Debian's packages perhaps more. Exits with 1 if any of them failed, or if
one that was asked for is not here.
"""

import os
import subprocess
import sys
from pathlib import Path

import psycopg

from lockgate.postgres import binaries
from tests import server

TESTS = ["tests/schema", "tests/runner/test_promise.py", "-k", "schema or three_runners or short_freeze"]


def installations() -> list[Path]:
    """The folders of programs there are, the oldest PostgreSQL first."""
    wheels = [folder for bin_ in binaries.installed() for folder in (bin_.parent.parent / "pginstall" / "bin", bin_)]
    found = dict.fromkeys([*wheels, *Path("/usr/lib/postgresql").glob("*/bin")])
    return sorted((folder for folder in found if (folder / "initdb").exists()), key=version)


def version(folder: Path) -> tuple[int, ...]:
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, timeout=20, check=True)
    return tuple(int(part) for part in said.stdout.split()[2].split("."))


def passes(folder: Path) -> bool:
    """Runs the tests on a server of these programs."""
    with server.of_its_own(server.THROW_AWAY, server.MEMORY, folder) as one:
        with psycopg.connect(one.dsn(database="postgres"), autocommit=True) as admin:
            admin.execute("create database test")
        environment = {k: v for k, v in os.environ.items() if k != "REQUIRE_DOCKER"}
        environment["TEST_DATABASE_URL"] = one.dsn(database="test")
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "2", *TESTS], env=environment, check=False)
    return done.returncode == 0


def main() -> None:
    asked = {int(argument) for argument in sys.argv[1:]}
    chosen = [folder for folder in installations() if not asked or version(folder)[0] in asked]
    results = {f"{major}": False for major in asked - {version(folder)[0] for folder in chosen}}
    for folder in chosen:
        name = ".".join(map(str, version(folder)))
        print(f"\n-- PostgreSQL {name} ({folder})", flush=True)  # noqa: T201
        results[name] = passes(folder)
    print()  # noqa: T201
    for name, passed in results.items():
        print(f"PostgreSQL {name}: {'passed' if passed else 'FAILED'}")  # noqa: T201
    sys.exit(0 if results and all(results.values()) else 1)


if __name__ == "__main__":
    main()
