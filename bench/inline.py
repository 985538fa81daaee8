"""``python -m bench.inline``: a runner that executes handlers in its own process, to measure the cost of executors.

For measurements only: its tasks have no deadline and cannot be stopped.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from lockgate_runner.__main__ import main
from lockgate_runner.claimed import Claimed
from lockgate_runner.executor import child, pool
from lockgate_runner.executor.protocol import Ended

from lockgate.handlers import Task, registry


class Inline:
    """An executor for `Executors` without a process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.kinds = sorted(registry)
        self.schemas: dict[str, Any] = {}
        self.alive = True
        self.stopping = False
        self.tasks = 0
        self.on_ended: Callable[[Ended], None] = lambda _: None
        self.on_progress = self.on_output = self.on_died = lambda *_: None

    @classmethod
    async def start(cls) -> "Inline":
        child.load_handlers()
        return cls()

    def execute(self, task: Claimed, until: float) -> None:  # noqa: ARG002 - as `Executor` has it
        handler = registry[task.kind]
        told = Task(
            id=task.task, lease=task.lease, queue=task.queue, kind=task.kind, attempt=task.attempt,
            max_attempts=task.max_attempts,
        )  # fmt: skip
        result = handler.function(**handler.arguments(bytes(task.payload), told))
        encoded = child.encode(result, "result", child.RESULT_LIMIT)
        asyncio.get_running_loop().call_soon(self.on_ended, Ended(task.lease, "returned", result=encoded))

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
