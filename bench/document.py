"""A Markdown page of reports, a section each; the next run of a script replaces its section."""

import math
import re
from pathlib import Path

from bench.report import Report

HEAD = """# Performance

Each section has the figures of one question beside their targets. Each figure stands beside a reference from the same
run, since both depend on the machine: compare the ratios. `make bench`, `make soak` and `make bench-peers` write their
sections anew. A section names its command first; its last lines name the machine, the programs and the commit.
"""


def put(file: Path, report: Report) -> None:
    """Replaces the section of this report in the file, in the order of the headings."""
    found = re.split(r"^(?=## )", file.read_text(), flags=re.MULTILINE)[1:] if file.exists() else []
    sections = {text.splitlines()[0]: text.strip() for text in found} | {report.heading: report.markdown().strip()}
    file.write_text(
        "\n\n".join([HEAD.strip(), *(sections[heading] for heading in sorted(sections, key=_place))]) + "\n"
    )


def _place(heading: str) -> tuple[float, str]:
    """Sorts `## 10. Reads` after `## 9. ...`, and sections without a number to the end."""
    number = re.match(r"## (\d+)", heading)
    return int(number[1]) if number else math.inf, heading
