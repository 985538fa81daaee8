"""What a piece says becomes a row, and the sums are those of all rows."""

from tests.proof import COLUMNS, HEAD, INTO, added, figures

DOCUMENT = f"""# Title

{HEAD}
| {" | ".join("---" for _ in COLUMNS)} |
| all | | 0 pieces | | 0 | 0 | 0 | 0 |

The rest.
"""


def row(*values: str) -> dict[str, str]:
    return dict(zip(COLUMNS, values, strict=True))


def test_rows_accumulate_and_are_added_up() -> None:
    document = added(DOCUMENT, row("2026-01-01", "abc", "chaos", "7", "20", "490", "2,100", "0"))
    document = added(document, row("2026-01-02", "def", "network", "", "8", "80", "900", "exit code 3"))
    assert document.splitlines()[4:] == [
        "| 2026-01-01 | abc | chaos | 7 | 20 | 490 | 2,100 | 0 |",
        "| 2026-01-02 | def | network |  | 8 | 80 | 900 | exit code 3 |",
        "| all | | 2 pieces | | 28 | 570 | 3,000 | 1 |",
        "",
        "The rest.",
    ]


def test_the_page_has_the_table() -> None:
    page = INTO.read_text()
    assert page.count(HEAD) == 1
    assert added(page, row("2026-01-01", "abc", "x", "", "1", "2", "3", "0")).count("| abc | x |") == 1


def test_figures_are_read_from_what_a_piece_says() -> None:
    said = 'much else\nfigures: {"faults": 3, "tasks": 4000, "breaches": 0}\nThe promise held.\n'
    assert figures(said, ["tests.amqp"]) == ("3", "4,000", "0")
    assert figures("Traceback", ["tests.amqp"]) == ("", "", "no figures")
    soak = "| figure | measured | target | met |\n| --- | --- | --- | --- |\n| claims | 1 | 2 | no |\n"
    assert figures(soak, ["bench.soak", "--tasks", "800000"]) == ("0", "800,000", "1")
