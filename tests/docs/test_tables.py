"""What the documentation lists is complete: settings, log events, environment variables, files, links."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from lockgate_runner.__main__ import main as bare_runner

from lockgate.__main__ import COMMANDS
from lockgate.__main__ import main as lockgate
from lockgate.options import WITHOUT_OPTION
from tests.docs.markdown import DOCUMENTS, ROOT, blocks, table

PROGRAMS = ("up", "demo", "serve", "run", "intake", "publish", "migrate")
"""Those that run it. The commands that use it say in their --help what a table would."""

INTERNAL = {"LOCKGATE_ACTIVATION", "LOCKGATE_LIFELINE"}
"""Said by one of our programs to another, never by people."""


def command(name: str) -> click.Command:
    found = lockgate.get_command(click.Context(lockgate), name)
    assert found
    return found


def options(of: click.Command) -> list[click.Option]:
    return [option for option in of.params if isinstance(option, click.Option) and not option.hidden]


def default(option: click.Option) -> str | None:
    """As the documentation has to say it; None where click knows none."""
    if isinstance(option.show_default, str):
        return option.show_default
    if option.required:
        return "required"
    value = option.get_default(click.Context(click.Command("none")), call=False)
    return None if value in (None, ()) or not isinstance(value, (str, int, float)) else str(value)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_table_of_a_command_has_its_options_and_defaults(name: str) -> None:
    rows = table("docs/settings.md", f"## `lockgate {name}`")
    assert [row[:2] for row in rows] == [[option.opts[0], option.envvar] for option in options(command(name))]
    for row, option in zip(rows, options(command(name)), strict=True):
        assert row[2] == (default(option) or row[2]), f"default of {row[0]}"
        assert row[2]
        assert row[3].endswith(".")


def test_every_command_is_named() -> None:
    text = (ROOT / "docs/running.md").read_text()
    assert [name for name in COMMANDS if f"`lockgate {name}`" not in text] == []


def test_the_settings_of_a_bare_runner_are_named_too() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    for option in bare_runner.params:
        assert f"`{option.envvar}`" in text, option.opts


def variables() -> dict[str, set[str | None]]:
    """Every variable that is read, and the defaults it has, one per command that has it."""
    found: dict[str, set[str | None]] = {name: {None} for name in {*WITHOUT_OPTION, "DATABASE_URL_FILE"} - INTERNAL}
    for each in (*map(command, COMMANDS), bare_runner):
        for option in [option for option in options(each) if option.envvar]:
            found.setdefault(str(option.envvar), set()).add(default(option))
    return found


def test_the_example_of_an_environment_has_every_variable_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    given = re.findall(r"^(# )?((?:LOCKGATE|DATABASE)_\w+)=(.*)$", text, re.MULTILINE)
    assert sorted(name for _, name, _ in given) == sorted(variables())
    for commented_out, name, value in given:
        if name == "DATABASE_URL":
            assert not commented_out
            continue
        assert commented_out, name
        assert not value or value in variables()[name], name


def test_every_variable_of_the_example_is_explained() -> None:
    before = ""
    for line in (ROOT / ".env.example").read_text().splitlines():
        if re.match(r"(# )?\w+=", line):
            assert before.startswith("# "), f"nothing above {line}"
        before = line


def events(*files: Path) -> dict[str, set[str]]:
    """The events that these modules log, with their levels."""
    found: dict[str, set[str]] = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) in ("log", "logger", "log.logger")
                and node.func.attr in ("debug", "info", "warning", "error")
                and isinstance(node.args[0], ast.Constant)
            ):
                found.setdefault(str(node.args[0].value), set()).add(node.func.attr)
    return found


def log_table(heading: str, document: str = "docs/metrics-and-logs.md") -> dict[str, set[str]]:
    return {row[0]: set(row[1].split(", ")) for row in table(document, heading)}


def test_every_event_a_runner_logs_is_in_the_table_with_its_level() -> None:
    shared = (ROOT / f"lockgate/{name}.py" for name in ("log", "metrics"))
    said = events(*(ROOT / "runner").rglob("*.py"), *shared)
    # Which of these it is, is worked out in one place: see `Outcomes._record`.
    for outcome in ("finished", "failed", "cancelled", "returned"):
        said.setdefault(outcome, set()).add("info")
    assert log_table("## The runner's log") == said


def test_every_event_the_service_logs_is_in_the_table_with_its_level() -> None:
    service = ROOT / "service/lockgate_service"
    modules = (path for path in service.rglob("*.py") if service / "amqp" not in path.parents)
    said = events(*modules, *(ROOT / f"lockgate/{name}.py" for name in ("log", "queues")))
    assert log_table("## The service's log") == said


def test_every_event_of_the_programs_for_rabbitmq_is_in_their_tables_with_its_level() -> None:
    said = events(*(ROOT / "service/lockgate_service/amqp").rglob("*.py"), ROOT / "lockgate/metrics.py")
    tables = [log_table(f"### Watching the {program}", "docs/rabbitmq.md") for program in ("intake", "publisher")]
    assert {**tables[0], **tables[1]} == said


def test_settings_of_queues_are_those_of_the_schema() -> None:
    known = re.search(r"where k not in \((.*?)\)", (ROOT / "schema.sql").read_text(), re.DOTALL)
    assert known
    assert {row[0] for row in table("docs/settings.md", "## A queue")} == set(re.findall(r"'(\w+)'", known[1]))


def test_the_claim_in_the_readme_is_that_of_the_schema() -> None:
    (shown,) = blocks("README.md", "plpgsql")
    assert " ".join(shown.text.split()) in " ".join((ROOT / "schema.sql").read_text().replace("lockgate.", "").split())


def documents() -> list[str]:
    """Every Markdown file of the checkout, without those of packages that lie in it."""
    files = (*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md"))
    return sorted(str(path.relative_to(ROOT)) for path in files if "node_modules" not in path.parts)


@pytest.mark.parametrize("document", documents())
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"(?:\]\(|src(?:set)?=\")([^)\"]+)[)\"]", path.read_text()):
        if target.startswith("https:"):
            continue
        file, _, heading = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, target


def test_every_document_is_in_the_lists_of_the_tests() -> None:
    """`DOCUMENTS` are those whose examples are executed: all that people read."""
    others = {"ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/performance.md"}
    guides = (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
    assert {str(path.relative_to(ROOT)) for path in guides} - others == {*DOCUMENTS}


@pytest.mark.parametrize("document", documents())
def test_files_that_are_named_exist(document: str) -> None:
    for name in re.findall(r"`((?:runner|service|lockgate|tests|docs)/[\w/.-]+)`", (ROOT / document).read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("document", documents())
def test_programs_that_are_named_exist(document: str) -> None:
    for name in re.findall(r"python -m ((?:bench|tests|lockgate)[\w.]*\w)", (ROOT / document).read_text()):
        assert find_spec(name), name


@pytest.mark.parametrize("record", sorted((ROOT / "docs/adr").glob("*.md")), ids=lambda path: path.name)
def test_a_decision_record_has_its_four_parts(record: Path) -> None:
    headings = re.findall(r"^## (.+)$", record.read_text(), re.MULTILINE)
    assert headings == ["Context", "Decision", "Alternatives considered", "Not covered by this record"]
    assert record.read_text().startswith(f"# {int(record.name[:4])}. ")
