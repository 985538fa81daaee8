"""The distributions as users install them: what they hold, what they need, and which names they leave alone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.contract import Contract, until
from tests.database import Database

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV", "uv")
OWN_PACKAGES = ("bench", "client", "runner", "service", "tests")
"""Packages of a user's project, named as folders of this repository are."""

HANDLERS = """
from lockgate import handler

@handler
def charge(cents: int) -> int:
    return cents * 2
"""


def run(*command: str | Path, **settings: str) -> str:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LOCKGATE_", "PYTHON", "VIRTUAL"))
    }
    done = subprocess.run(command, env=kept | settings, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(folder: Path, *arguments: str | Path) -> Path:
    run(UV, "build", "--quiet", "--out-dir", folder, *arguments)
    (built,) = (path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))
    return built


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as content:
        return {name for name in content.namelist() if ".dist-info/" not in name}


def install(folder: Path, *packages: str | Path) -> Path:
    """A fresh environment with these packages; the folder of its programs."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    run(UV, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *packages)
    return folder / "bin"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """That of lockgate and that of lockgate-client."""
    folder = tmp_path_factory.mktemp("wheels")
    return build(folder / "all", "--wheel", ROOT), build(folder / "client", "--wheel", ROOT / "client")


@pytest.fixture(scope="module")
def programs(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"), *wheels)


def test_all_that_is_installed_is_called_lockgate(wheels: tuple[Path, Path]) -> None:
    everything, client = map(names, wheels)
    assert {name.split("/")[0] for name in everything} == {"lockgate", "lockgate_runner", "lockgate_service"}
    assert {name.split("/")[0] for name in client} == {"lockgate_client"}
    assert {"lockgate/py.typed", "lockgate_client/py.typed"} <= everything | client
    schema = {path.relative_to(ROOT) for path in (ROOT / "schema.sql", *ROOT.glob("schema/**/*.sql"))}
    assert {f"lockgate/sql/{path}" for path in schema} <= everything


def test_a_wheel_made_of_the_source_distribution_is_the_same(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    source = build(tmp_path / "source", "--sdist", ROOT)
    assert names(build(tmp_path / "again", "--wheel", source)) == names(wheels[0])


def test_the_client_needs_httpx_and_msgspec_only(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    programs = install(tmp_path, wheels[1])
    needs = "from importlib.metadata import requires; print(*requires('lockgate-client'))"
    assert run(programs / "python", "-c", needs) == "httpx<1,>=0.28 msgspec>=0.20\n"
    check = "import lockgate_client as it; print(it.Client('http://localhost').close(), it.NewTask('mail').kind)"
    assert run(programs / "python", "-c", check) == "None mail\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project, and in it, as if in a shell."""
    for name in OWN_PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "payments.py").write_text(HANDLERS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["", "."])
def test_a_project_has_packages_of_the_same_names(project: Path, programs: Path, path: str) -> None:
    assert "To run it" in run(programs / "lockgate", "--help", PYTHONPATH=path)
    assert "create schema lockgate" in run(programs / "lockgate", "schema", PYTHONPATH=path)
    for name in ("up", "serve", "run", "intake", "migrate", "submit", "keys"):
        assert "Usage:" in run(programs / "lockgate", name, "--help", PYTHONPATH=path)
    check = "import lockgate.client, service.payments as it; print(it.charge(2))"
    assert run(programs / "python", "-c", check, PYTHONPATH=path) == "4\n"


def test_handlers_of_such_a_package_execute(project: Path, programs: Path, q: Contract, db: Database) -> None:
    task = q.submit(kind="charge", payload={"cents": 21})
    settings = {"PYTHONPATH": ".", "LOCKGATE_HANDLERS": "service.payments", "LOCKGATE_SPARE": "0"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCKGATE_")}
    command: list[str | Path] = [programs / "lockgate", "run", "--database-url", db.runner]
    with subprocess.Popen(command, env=kept | settings) as process:
        try:
            until(lambda: q.task(task).status == "succeeded", "the task to succeed", 60)
        finally:
            process.terminate()
    assert q.task(task).result == 42
    assert process.returncode == 0
    with subprocess.Popen(
        [programs / "lockgate", "serve", "--port", "0", "--database-url", db.service], env=kept | settings,
        stdout=subprocess.PIPE, text=True,
    ) as service:  # fmt: skip
        assert service.stdout
        assert "listening" in service.stdout.readline()
        service.terminate()
    assert service.returncode == 0
