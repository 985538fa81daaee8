"""`lockgate demo`: what it shows, what its exit code says, what it leaves behind."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockgate.local.demo import Row, kept
from lockgate.postgres.server import available
from tests.contract import until
from tests.lockgate.up import LIMIT, descendants, environment, is_running, lockgate

SUCCEEDED = Row(1, "succeeded", None, "r", 1.0, 0.0, 1.0)


needs_server = pytest.mark.skipif(not available(), reason="the wheel of the embedded server is not installed")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demo makes its temporary folder."""
    with tempfile.TemporaryDirectory(prefix="lgt-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


@needs_server
@pytest.mark.parametrize(("tasks", "slots", "more"), [(2, 2, ""), (8, 2, "--max 1 --runners 4")])
def test_every_task_succeeds_and_the_witness_never_saw_too_many(
    folder: Path, tasks: int, slots: int, more: str
) -> None:
    shown = lockgate("demo", "--tasks", str(tasks), "--slots", str(slots), *more.split())
    assert shown.returncode == 0, shown.stderr
    assert len(re.findall(r"s  task +\d+  succeeded +(?:slot \d  )?runner \d  \d+\.\d s\n", shown.stdout)) == tasks
    assert f"{tasks} of {tasks} tasks succeeded" in shown.stdout
    most = re.search(rf"At most (\d+) executed at once, says the witness; {slots} were allowed", shown.stdout)
    assert most
    assert 1 <= int(most[1]) <= slots
    assert not list(folder.iterdir())


@needs_server
def test_ctrl_c_leaves_no_process_and_no_folder(folder: Path) -> None:
    command = [sys.executable, "-m", "lockgate", "demo", "--min", "300", "--max", "300"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout
        while "running" not in demo.stdout.readline():
            assert demo.poll() is None
        started = descendants(demo.pid)
        assert len(started) > 5
        demo.send_signal(signal.SIGINT)
        assert demo.wait(LIMIT) == 130
        until(lambda: not [pid for pid in started if is_running(pid)], "all of them to be gone", LIMIT)
    assert not list(folder.iterdir())


def test_the_exit_code_depends_on_every_task_and_on_the_witness() -> None:
    assert kept([SUCCEEDED], {1}, most=2, slots=2)
    assert not kept([SUCCEEDED], {1}, most=3, slots=2)
    assert not kept([SUCCEEDED], set(), most=0, slots=2)
    assert not kept([SUCCEEDED, SUCCEEDED._replace(task=2, status="failed")], {1, 2}, most=2, slots=2)
