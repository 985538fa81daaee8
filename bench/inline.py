"""``python -m bench.inline``: a runner that executes handlers in its own process, to measure the cost of executors.

For measurements only: its tasks have no deadline and cannot be stopped.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from lockgate_runner.__main__ import main
from lockgate_runner.executor import child, pool
from lockgate_runner.executor.process import Ended
from lockgate_runner.executor.protocol import End, Execute

from lockgate.handlers import Task, registry


class Inline:
    """An executor for `ExecutorPool` without a process."""

    def __init__(self, answer: Callable[[Any], None]) -> None:
        self.pid = os.getpid()
        self.kinds = sorted(registry)
        self.schemas: dict[str, Any] = {}
        self.alive = True
        self.stopping = False
        self.tasks = 0
        self.lease: int | None = None
        self._answer = answer

    @classmethod
    async def start(cls, answer: Callable[[Any], None]) -> "Inline":
        child.load_handlers()
        return cls(answer)

    def execute(self, task: Execute) -> None:
        self.lease = task.lease
        begun = time.monotonic()
        handler = registry[task.kind]
        told = Task(
            id=task.task, lease=task.lease, queue=task.queue, kind=task.kind, attempt=task.attempt,
            max_attempts=task.max_attempts,
        )  # fmt: skip
        result = handler.function(**handler.arguments(bytes(task.payload), told))
        end = End(task.lease, "returned", result=child.encode(result, "result", child.RESULT_LIMIT))
        self.lease = None
        ended: Any = Ended
        asyncio.get_running_loop().call_soon(self._answer, ended(self, end, time.monotonic() - begun))

    def live_until(self, until: float) -> None:
        """Does nothing: there is no process to end."""

    def memory(self) -> int:
        return 0

    async def stop(self) -> None:
        self.alive = False


if __name__ == "__main__":
    patched: Any = pool
    patched.Executor = Inline
    main()
