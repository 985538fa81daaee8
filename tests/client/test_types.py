"""What a type checker sees of the client."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio
from typing import Any, assert_type

from lockgate import AsyncClient, Client
from lockgate.client import Failures, NewTask, Output, Queue, RequestFailed, Submitted, Taken, Task, TaskFailed


def sync() -> None:
    with Client("http://localhost", key="k", timeout=5) as client:
        assert_type(client.submit("mail", {"to": 1}, priority=3), Task)
        assert_type(client.submit_many([NewTask("mail")]), list[Submitted])
        assert_type(client.stream(NewTask("mail") for _ in range(3)), Taken)
        result: str = client.wait(17, timeout=3)
        for task in client.list(status=["failed"], kind="mail"):
            assert_type(task, Task)
        assert_type(client.change(17, run_at=None), Task)
        assert_type([one.text for one in client.output(17)], list[str])
        assert_type(client.queues(), list[Queue])
        assert_type(client.failures(window="24h"), Failures)
        client.submit("mail", priorty=3)  # expected: Unexpected keyword argument "priorty"
        client.wait("17")  # expected: Argument 1 has incompatible type "str"
        client.list(status="done")  # expected: Argument "status" has incompatible type
        client.submit()  # expected: Too few arguments


async def concurrent() -> None:
    async with AsyncClient("http://localhost") as client:
        assert_type(await client.submit("mail"), Task)
        async for task in client.events(17):
            assert_type(task, Task)
        await asyncio.gather(*(client.wait(n) for n in range(3)))
        await asyncio.create_task(client.get(17))
        await client.get("17")  # expected: Argument 1 has incompatible type "str"
"""


def test_the_client_is_typed_as_a_user_sees_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "program.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    lines = PROGRAM.splitlines()
    expected = {number: line.partition("# expected: ")[2] for number, line in enumerate(lines, 1) if "# exp" in line}
    errors = [line.split(":", 2) for line in done.stdout.splitlines() if ": error: " in line]
    assert {int(number) for _, number, _ in errors} == {*expected}, done.stdout
    assert all(expected[int(number)].split(" ")[0] in text for _, number, text in errors), done.stdout
