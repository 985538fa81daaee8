"""What may import what: the rooms of the repository, and what a program has in its memory."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "lockgate": ROOT / "lockgate",
    "lockgate_client": ROOT / "client" / "lockgate_client",
    "lockgate_runner": ROOT / "runner" / "lockgate_runner",
    "lockgate_service": ROOT / "service" / "lockgate_service",
}
BASE = {f"lockgate.{name}" for name in ("backoff", "errors", "log", "metrics", "options", "signals")}
"""The small things that every program needs. They know nothing of the queue."""


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(module: str) -> Iterator[str]:
    """Yield our own modules that it imports, also inside of functions; not those for types only."""
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body.clear()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{each.name}" for each in node.names]
            names = [name if name in MODULES else node.module for name in inner]
        yield from (name for name in names if name in MODULES)


def room(module: str) -> str:
    """The folder right below a package, or a module that lies in none."""
    top = ".".join(module.split(".")[:2])
    return top if any(name.startswith(f"{top}.") for name in MODULES) else module


def rooms() -> dict[str, set[str]]:
    """Each room with those that it imports."""
    found: dict[str, set[str]] = {}
    for module in MODULES:
        found.setdefault(room(module), set()).update({room(name) for name in imports(module)} - {room(module)})
    return found


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("lockgate_service", {"lockgate_runner", "lockgate_client"}),
        ("lockgate_runner", {"lockgate_service", "lockgate_client"}),
        ("lockgate_client", {"lockgate", "lockgate_service", "lockgate_runner"}),
    ],
)
def test_programs_share_the_schema_and_no_module(package: str, others: set[str]) -> None:
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        if module.split(".")[0] == package
        for name in imports(module)
        if name.split(".")[0] in others
    ]
    assert wrong == []


def test_the_base_knows_nothing_of_the_rest() -> None:
    assert {module: set(imports(module)) - BASE for module in BASE} == {module: set() for module in BASE}


def test_no_room_imports_itself_by_way_of_another() -> None:
    try:
        TopologicalSorter(rooms()).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))


@pytest.mark.parametrize(
    ("program", "without"),
    [
        ("lockgate_service.__main__", {"lockgate_runner", "lockgate_client", "lockgate.local", "lockgate.commands"}),
        ("lockgate_runner.__main__", {"lockgate_service", "lockgate_client", "lockgate.commands", "litestar", "httpx"}),
        # A supervisor lives for as long as its runners, and only waits.
        (
            "lockgate.local.supervisor",
            {"lockgate_service", "lockgate_client", "lockgate.commands", "litestar", "psycopg"},
        ),
    ],
)
def test_a_program_loads_nothing_that_it_has_no_use_for(program: str, without: set[str]) -> None:
    check = f"import sys, {program}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert without & set(done.stdout.split()) == set()
