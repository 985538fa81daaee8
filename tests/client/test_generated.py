"""A client that a generator makes of our OpenAPI document, against the service that has given it."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.contract import Contract, Session
from tests.database import Database

CONFIG = """
content_type_overrides:
  application/x-ndjson: application/octet-stream
post_hooks: []
"""
NAME = "generated_lockgate"


@pytest.fixture(scope="module")
def generated(served: tuple[Database, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the package."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(httpx.get(f"{served[1]}/docs/openapi.json", timeout=60).content)
    (folder / "config.yaml").write_text(CONFIG)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", "openapi.json", "--meta",
            "none", "--output-path", NAME, "--config", "config.yaml", "--fail-on-warning",
        ],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield folder / NAME
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.fixture
def api(generated: Path, url: str) -> Iterator[Any]:
    """`call(operation, ...)`, and the models and the client."""
    made: Any = importlib.import_module(NAME)
    models: Any = importlib.import_module(f"{NAME}.models")
    with made.Client(base_url=url, raise_on_unexpected_status=True) as client:

        def call(operation: str, *args: Any, **named: Any) -> Any:
            return importlib.import_module(f"{NAME}.api.{operation}").sync_detailed(*args, client=client, **named)

        yield SimpleNamespace(call=call, models=models)


def test_every_operation_is_there_and_every_module_can_be_loaded(generated: Path, served: tuple[Database, str]) -> None:
    document = httpx.get(f"{served[1]}/docs/openapi.json", timeout=60).json()
    operations = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    modules = [path for path in generated.rglob("*.py") if path.name != "__init__.py"]
    for path in modules:
        importlib.import_module(".".join(path.relative_to(generated.parent).with_suffix("").parts))

    made = {path.stem.replace("_", "") for path in modules if path.parent.parent.name == "api"}
    assert made == {operation.lower() for operation in operations}


def test_the_package_is_typed(generated: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=", NAME],
        cwd=generated.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_task_is_created_waited_for_and_listed(api: Any, q: Contract, runner: Session) -> None:
    new = api.models.NewTask(kind="mail", payload={"to": "a@b"}, tags=["x"])

    created = api.call("tasks.create_task", body=new, idempotency_key="k")
    again = api.call("tasks.create_task", body=new, idempotency_key="k")
    runner.finish(runner.work(), {"n": 1})
    ended = api.call("tasks.get_task", created.parsed.id, prefer="wait=20")

    assert (created.status_code, again.status_code) == (202, 200)
    assert again.parsed.id == created.parsed.id
    assert isinstance(ended.parsed, api.models.TaskDetail)
    assert (ended.parsed.status, ended.parsed.result) == (api.models.Status.SUCCEEDED, {"n": 1})
    assert ended.parsed.finish_time.tzinfo is not None
    page = api.call("tasks.list_tasks", status=[api.models.Status.SUCCEEDED], tag="x").parsed
    assert [one.id for one in page.items] == [created.parsed.id]


def test_pages_are_followed(api: Any, q: Contract) -> None:
    numbers = [q.submit() for _ in range(3)]

    first = api.call("tasks.list_tasks", limit=2).parsed
    second = api.call("tasks.list_tasks", limit=2, cursor=first.next_cursor).parsed

    assert [one.id for page in (first, second) for one in page.items] == numbers[::-1]
    assert second.next_cursor is None


def test_a_task_is_changed_and_cancelled(api: Any, q: Contract) -> None:
    number = q.submit()

    changed = api.call("tasks.change_task", number, body=api.models.TaskChange(priority=7)).parsed
    cancelled = api.call("tasks.cancel_task", number, body=api.models.CancelRequest()).parsed

    assert (changed.priority, cancelled.status) == (7, api.models.Status.CANCELLED)


def test_errors_are_typed(api: Any, q: Contract) -> None:
    missing = api.call("tasks.get_task", 1)
    bad = api.call("tasks.create_task", body=api.models.NewTask(kind="mail", priority=1000))
    ended = api.call("tasks.cancel_task", q.row("succeeded"), body=api.models.CancelRequest())

    assert (missing.parsed.type_, bad.parsed.errors[0].field) == ("/problems/not-found", "priority")
    assert (ended.status_code, ended.parsed.type_) == (409, "/problems/already-ended")
    assert {type(one.parsed) for one in (missing, bad, ended)} == {api.models.Problem}


def test_batches_and_streams(api: Any, q: Contract, generated: Path) -> None:
    file: Any = importlib.import_module(f"{NAME}.types").File
    batch = api.models.Batch(items=[api.models.BatchTask(kind="mail"), api.models.BatchTask(kind="mail")])

    stored = api.call("tasks.create_tasks", body=batch).parsed
    taken = api.call("tasks.stream_tasks", body=file(payload=b'{"kind": "mail"}\n' * 3)).parsed

    assert [one.outcome for one in stored.items] == ["created"] * 2
    assert (taken.lines, taken.created) == (3, 3)


def test_queues_and_runners(api: Any, q: Contract, runner: Session) -> None:
    changed = api.call("queues.change_queue", "default", body=api.models.QueueChange(slots=3, timeout=None)).parsed

    assert (changed.name, changed.slots, changed.timeout) == ("default", 3, None)
    assert api.call("runners.list_runners").parsed.items[0].runner == runner.name
    assert api.call("stats.get_stats").status_code == 200
