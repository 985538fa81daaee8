"""A mutant: the product with one guard weakened, and the tests that have to notice."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


class Stale(Exception):
    """A mutant no longer fits the source; the message says which text, and where it was looked for."""


@dataclass(frozen=True)
class Edit:
    """`text` becomes `instead`. It has to be there exactly once: in the file or, where `within` is given, in that
    function, view or method ("claim" in SQL; "listen", "Executor.kill" in Python)."""

    file: str
    within: str
    text: str
    instead: str

    def apply(self, source: str) -> str:
        """Raises Stale."""
        begin, end = self._place(source)
        found = source.count(self.text, begin, end)
        where = f"{self.within} of {self.file}" if self.within else self.file
        if found != 1:
            raise Stale(f"{found} times in {where}, not once: {self.text!r}")
        at = source.index(self.text, begin, end)
        return source[:at] + self.instead + source[at + len(self.text) :]

    def _place(self, source: str) -> tuple[int, int]:
        if not self.within:
            return 0, len(source)
        places = sql_functions(source, self.within) if self.file.endswith(".sql") else definitions(source, self.within)
        if len(places) != 1:
            raise Stale(f"{self.file} has {len(places)} of {self.within!r}, not one")
        return places[0]


@dataclass(frozen=True)
class Mutant:
    """`caught_by`: what pytest is told to run. One test that fails is enough."""

    name: str
    weakens: str
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]

    def weaken(self, folder: Path) -> None:
        """Edits the copy of the repository there. Raises Stale."""
        for edit in self.edits:
            path = folder / edit.file
            path.write_text(edit.apply(path.read_text()))


def sql(within: str, text: str, instead: str) -> Edit:
    """An edit of a function or view of the schema, in whichever of its files that is; without one, of schema.sql."""
    chapters = [f"schema/{path.name}" for path in (CHECKOUT / "schema").glob("*.sql")]
    files = [file for file in chapters if within and sql_functions((CHECKOUT / file).read_text(), within)]
    return Edit(files[0] if files else "schema.sql", within, text, instead)


def sql_functions(source: str, name: str) -> list[tuple[int, int]]:
    """Where functions or views of that name are, from their head to the comment that follows each."""
    whole = rf"^create (function|view) lockgate\.{re.escape(name)}\b.*?^comment on \1"
    return [match.span() for match in re.finditer(whole, source, re.DOTALL | re.MULTILINE)]


def definitions(source: str, name: str) -> list[tuple[int, int]]:
    """Where Python defines this: a function, a class, or with dots something within one."""
    scopes: list[ast.AST] = [ast.parse(source)]
    for part in name.split("."):
        scopes = [
            node
            for scope in scopes
            for node in ast.iter_child_nodes(scope)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == part
        ]
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return [
        (starts[node.lineno - 1], starts[node.end_lineno or node.lineno])
        for node in scopes
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    ]
