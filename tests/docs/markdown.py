"""The parts of a Markdown file that can be executed or compared."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "api", "clients", "handlers", "metrics-and-logs", "page", "promise", "rabbitmq", "reliability", "running",
            "scaling", "security", "settings", "when-the-database-is-away",
        )
    ),
)  # fmt: skip


class Block(NamedTuple):
    """A fenced block: its language, its text, the file and line it begins at."""

    language: str
    text: str
    place: str


def blocks(document: str, language: str) -> list[Block]:
    text = (ROOT / document).read_text()
    return [
        Block(found[1], found[2], f"{document}:{text[: found.start()].count(chr(10)) + 1}")
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if found[1] == language
    ]


def table(document: str, heading: str) -> list[list[str]]:
    """The rows of the first table below that heading, without the code marks around whole cells."""
    _, found, rest = (ROOT / document).read_text().partition(f"\n{heading}\n")
    assert found, f"{document} has no heading {heading!r}"
    lines = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert lines, f"{document} has no table below {heading!r}"
    rows = [[cell.strip().strip("`") for cell in line.strip("|\n").split(" | ")] for line in lines[0].splitlines()]
    return rows[2:]
