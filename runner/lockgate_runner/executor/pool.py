"""The executors of a runner: one for each slot it holds, started beside its work, replaced when dead or worn."""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import structlog

from lockgate_runner.executor import watchdog
from lockgate_runner.executor.process import Answer, Executor, HandlersNotLoaded, NotStarted, Started

MIB = 1024 * 1024

log = structlog.get_logger()


class HasExecutor(Protocol):
    """A slot, as the pool knows it."""

    executor: Executor | None


Slot = TypeVar("Slot", bound=HasExecutor)


class ExecutorPool(Generic[Slot]):
    """Starts executors and assigns them to slots. The runner passes on `Started`, `NotStarted` and `Died`."""

    def __init__(
        self, answer: Callable[[Answer], None], *, recycle_tasks: int, recycle_memory: int, memory_limit: int
    ) -> None:
        self.blocked_until = 0.0
        """No new slot before this time: an executor did not start, or died idle. On the clock of deadlines."""
        self._answer = answer
        self._recycle_tasks = recycle_tasks
        self._recycle_memory = recycle_memory * MIB
        self._memory_limit = memory_limit * MIB
        self._slots: dict[Executor, Slot] = {}
        self._spare: list[Executor] = []
        self._waiting: list[Slot] = []
        """Slots without an executor, for which one is being started."""
        self._starts: set[asyncio.Task[None]] = set()
        self._starting = 0
        """The number of executors that have not answered yet."""
        self._pause = 1.0

    async def first(self) -> Executor:
        """Starts the first executor, which proves that the handlers load, and tells their kinds.

        Raises:
            HandlersNotLoaded: they do not.
        """
        return await self._start()

    def slot_of(self, executor: Executor) -> Slot | None:
        return self._slots.get(executor)

    def assign(self, slot: Slot) -> None:
        """Sees to it that the slot has, or will have, an executor fit for work."""
        executor = slot.executor
        if executor and executor.alive and self.is_worn(executor):
            log.info("executor replaced", executor=executor.pid, tasks=executor.tasks, memory=executor.memory())
            executor.stopping = True
            executor.kill()
            del self._slots[executor]
            slot.executor = None
        if slot.executor or slot in self._waiting:
            return
        spare = next((executor for executor in self._spare if executor.alive), None)
        if spare:
            self._spare.remove(spare)
            self._slots[spare], slot.executor = slot, spare
            return
        self._waiting.append(slot)
        if self._starting < len(self._waiting):
            self._begin()

    def is_starting(self, slot: Slot) -> bool:
        """Whether an executor for this slot is being started."""
        return slot in self._waiting

    def take_back(self, slot: Slot) -> None:
        """Takes the executor of a slot that is released; it may serve another."""
        if slot in self._waiting:
            self._waiting.remove(slot)
        if slot.executor:
            del self._slots[slot.executor]
            if slot.executor.alive:
                self._spare.append(slot.executor)
        slot.executor = None

    def started(self) -> Slot | None:
        """Assigns the new executor to a slot that waits for one; returns that slot."""
        self._starting -= 1
        self._pause = 1.0
        if not self._waiting:
            return None
        slot = self._waiting.pop(0)
        self.assign(slot)
        return slot

    def not_started(self, reason: str) -> None:
        """Lets one slot wait no more: the runner releases it, since others may have better luck."""
        log.error("executor not started", error=reason, retry_in=self._pause)
        self._starting -= 1
        del self._waiting[:1]
        self.blocked_until = watchdog.now() + self._pause
        self._pause = min(self._pause * 2, 30.0)

    def died(self, executor: Executor) -> Slot | None:
        """Forgets a dead executor; returns the slot that it had."""
        slot = self._slots.pop(executor, None)
        if slot:
            slot.executor = None
        elif executor in self._spare:
            self._spare.remove(executor)
            if not executor.stopping:
                self.blocked_until = watchdog.now() + self._pause
        return slot

    def is_worn(self, executor: Executor) -> bool:
        """Whether it has reached its limit of tasks or memory."""
        tasks, memory = self._recycle_tasks, self._recycle_memory
        return bool((tasks and executor.tasks >= tasks) or (memory and executor.memory() > memory))

    def is_too_large(self, executor: Executor) -> bool:
        return bool(self._memory_limit and executor.memory() > self._memory_limit)

    async def keep(self, number: int) -> None:
        """Ends the executors without a slot except so many; starts one if there are fewer."""
        alive = [executor for executor in self._spare if executor.alive]
        for executor in alive[number:]:
            await executor.stop()
        if len(alive) < number and not self._starting and watchdog.now() >= self.blocked_until:
            self._begin()

    async def stop(self) -> None:
        """Ends all of them."""
        for start in self._starts:
            start.cancel()
        for executor in [*self._slots, *self._spare]:
            await executor.stop()

    async def _start(self) -> Executor:
        executor = await Executor.start(self._answer)
        log.info("executor started", executor=executor.pid, kinds=executor.kinds)
        self._spare.append(executor)
        return executor

    def _begin(self) -> None:
        self._starting += 1
        start = asyncio.create_task(self._start_one(), name="start executor")
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)

    async def _start_one(self) -> None:
        try:
            self._answer(Started(await self._start()))
        except (HandlersNotLoaded, OSError) as error:
            self._answer(NotStarted(str(error)))
