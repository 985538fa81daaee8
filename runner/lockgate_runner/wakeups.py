"""What a runner has to look at next, and when. Everything that happens beside its one coroutine only writes here."""

import asyncio
from collections.abc import Iterable

from lockgate_runner.executor import watchdog


class Agenda:
    """Times are on the clock of `deadline`."""

    def __init__(self) -> None:
        self.look_at = 0.0
        """When to look at queues and slots again."""
        self.due_at: dict[str, float] = {}
        """By queue: when its next scheduled task is due."""
        self._woken: set[str] = set()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Something has changed: go round once more."""
        self._rung.set()

    def wake(self, queue: str) -> None:
        """Something of that queue may be due: claim for its idle slots."""
        self._woken.add(queue)
        self._rung.set()

    def look(self) -> None:
        """Look at queues and slots now."""
        self.look_at = 0.0
        self._rung.set()

    def woken(self) -> set[str]:
        """The queues to claim from, and forgets them."""
        now = watchdog.now()
        for name in [name for name, due in self.due_at.items() if due <= now]:
            del self.due_at[name]
            self._woken.add(name)
        woken, self._woken = self._woken, set()
        return woken

    async def wait(self, times: Iterable[float]) -> None:
        """Until something rings, the next look or due task, or the first of these times."""
        delay = min([self.look_at, *self.due_at.values(), *times]) - watchdog.now()
        if delay > 0 and not self._woken:
            timer = asyncio.get_running_loop().call_later(delay, self._rung.set)
            await self._rung.wait()
            timer.cancel()
        self._rung.clear()
