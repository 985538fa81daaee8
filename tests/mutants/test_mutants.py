"""Whether the mutants still fit: run them with `make mutants`."""

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.database import Database
from tests.mutants import MUTANTS, scratch
from tests.mutants.__main__ import README, main, table
from tests.mutants.mutant import CHECKOUT, Edit, Mutant, Stale

SOURCE = """\
def first():
    return guard()


class Two:
    def second(self):
        if guard():
            return guard()

    def third(self): return guard()
"""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_weakens_is_in_the_source_just_once(mutant: Mutant) -> None:
    sources: dict[str, str] = {}
    for edit in mutant.edits:
        source = sources.get(edit.file) or (CHECKOUT / edit.file).read_text()
        sources[edit.file] = edit.apply(source)
        assert sources[edit.file] != source
    for name, weakened in sources.items():
        if name.endswith(".py"):
            ast.parse(weakened)


def test_every_mutant_has_a_name_of_its_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert not [name for name in names if not re.fullmatch("[a-z0-9-]+", name)]


def test_the_tests_that_are_to_catch_a_mutant_are_there() -> None:
    for selected in {test for mutant in MUTANTS for test in mutant.caught_by}:
        exists(selected)


def exists(selected: str) -> None:
    """Fails unless there is such a file and, if it is named, such a test in it."""
    path, _, test = selected.partition("::")
    tests = {node.name for node in ast.parse((CHECKOUT / path).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert not test or test.partition("[")[0] in tests, selected


def test_the_readme_says_which_test_notices_which_mutant() -> None:
    text = README.read_text()
    assert text.endswith(table()), "write it anew: uv run python -m tests.mutants --write"


def test_every_rule_of_the_readme_has_a_test_and_mutants_that_are_there() -> None:
    text = README.read_text()
    rules = [line.split(" | ") for line in text.partition("## Each guard")[0].splitlines() if " | `tests/" in line]
    assert len(rules) > 20
    names = {mutant.name for mutant in MUTANTS}
    for _, test, mutants in rules:
        exists(test.strip("`"))
        assert {name for name in re.split(r"[, |]+", mutants) if name} <= names


def test_an_edit_changes_the_one_place_it_names() -> None:
    assert "first():\n    return True" in Edit("x.py", "first", "guard()", "True").apply(SOURCE)
    assert "third(self): return True" in Edit("x.py", "Two.third", "guard()", "True").apply(SOURCE)
    assert "if True:" in Edit("x.py", "", "if guard()", "if True").apply(SOURCE)


@pytest.mark.parametrize(
    ("within", "text", "says"),
    [
        ("Two.second", "guard()", "2 times in Two.second of x.py"),
        ("first", "other()", "0 times in first of x.py"),
        ("second", "guard()", "x.py has 0 of 'second'"),
        ("", "guard()", "4 times in x.py"),
    ],
)
def test_an_edit_that_does_not_fit_just_once_says_so(within: str, text: str, says: str) -> None:
    with pytest.raises(Stale, match=re.escape(says)):
        Edit("x.py", within, text, "True").apply(SOURCE)


def test_a_mutant_weakens_the_copy_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(SOURCE)
    edits = (Edit("x.py", "first", "guard()", "True"), Edit("x.py", "Two.third", "guard()", "False"))
    Mutant("both", "two guards at once", edits, ()).weaken(tmp_path)
    assert (tmp_path / "x.py").read_text().count("guard()") == 2


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutants") / "copy"
    scratch.copy_checkout(folder)
    return folder


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("instead", "failed", "green"),
    [("0.0", True, False), ("max(grace / 10, 0.5)", False, True), ("max(0.5", False, False)],
    ids=["a weakened guard is caught", "a harmless change survives", "what does not run shows nothing"],
)
def test_a_copy_is_judged_by_the_tests_that_fail_in_it(
    copied: Path, db: Database, instead: str, failed: bool, green: bool
) -> None:
    file, guard = "runner/lockgate_runner/executor/watchdog.py", "max(0.5, grace / 10)"
    test = "tests/runner/test_deadline.py::test_an_executor_is_dead_some_time_before_the_grace_is_over"
    intact = (copied / file).read_text()
    Mutant("it", "", (Edit(file, "margin", guard, instead),), (test,)).weaken(copied)
    try:
        run = scratch.pytest(copied, db.admin, [test], 250, "--exitfirst")
    finally:
        (copied / file).write_text(intact)

    assert run.failed == ([f"{test}[1-0.5]"] if failed else [])
    assert run.green is green
    assert run.broken is not (failed or green)


def test_every_mutant_can_be_listed() -> None:
    said = CliRunner().invoke(main, ["--list"]).output
    assert [line.split()[0] for line in said.splitlines()] == [mutant.name for mutant in MUTANTS]


def test_a_name_that_no_mutant_has_is_refused() -> None:
    refused = CliRunner().invoke(main, ["nothing-like-it"])
    assert refused.exit_code == 2
    assert "no mutant is called nothing-like-it" in refused.output
