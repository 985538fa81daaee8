"""A Markdown page of answers: each in a section of its own, which the next run of its script replaces."""

import math
import re
from pathlib import Path

from bench.answer import Answer

HEAD = """# Performance

Each section has the figures of one question beside their targets. Each figure stands beside a reference from the same
run, since both depend on the machine: compare the ratios. `make bench`, `make soak` and `make bench-peers` write their
sections anew. A section names its command first; its last lines name the machine, the programs and the commit.
"""


def put(file: Path, answer: Answer) -> None:
    """Writes the answer into the page in the place of an older one, in the order of the headings."""
    found = re.split(r"^(?=## )", file.read_text(), flags=re.MULTILINE)[1:] if file.exists() else []
    sections = {text.splitlines()[0]: text.strip() for text in found} | {answer.heading: answer.markdown().strip()}
    file.write_text(
        "\n\n".join([HEAD.strip(), *(sections[heading] for heading in sorted(sections, key=_place))]) + "\n"
    )


def _place(heading: str) -> tuple[float, str]:
    """`## 10. Reads` comes after `## 9. ...`, and what is written by hand, without a number, at the end."""
    number = re.match(r"## (\d+)", heading)
    return int(number[1]) if number else math.inf, heading
