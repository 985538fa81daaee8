"""The executors of a runner: one for each slot it holds, started beside its work, replaced when dead or worn."""

import asyncio
from collections.abc import Callable

import structlog

from lockgate_runner.counters import Tally
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.process import Executor, HandlersNotLoaded
from lockgate_runner.executor.protocol import Ended, Progress
from lockgate_runner.reports import Words
from lockgate_runner.settings import Settings
from lockgate_runner.slots import Slot
from lockgate_runner.wakeups import Agenda

MIB = 1024 * 1024

log = structlog.get_logger()


class Executors:
    """Starts executors and ties each to its slot."""

    def __init__(self, settings: Settings, agenda: Agenda, words: Words, tally: Tally) -> None:
        self.blocked_until = 0.0
        """After an executor that did not start, or died idle: no new slot before this time, on the clock of `deadline`.
        """
        self.on_spare_died: Callable[[], None] = lambda: None
        """An executor that no slot has is dead, and was not told to end."""
        self._settings = settings
        self._agenda = agenda
        self._words = words
        self._tally = tally
        self._spare: list[Executor] = []
        self._starting: dict[asyncio.Task[None], Slot | None] = {}
        self._pause = 1.0

    async def first(self) -> Executor:
        """Starts the first executor, which proves that the handlers load, and knows their kinds.

        Raises:
            HandlersNotLoaded: they do not.
        """
        executor = await self._start()
        self._keep(executor)
        return executor

    def give(self, slot: Slot) -> None:
        """Sees to it that the slot has, or will have, an executor fit for work; pings go on while one starts."""
        if slot.executor and slot.executor.alive and self.worn(slot.executor):
            log.info(
                "executor replaced",
                executor=slot.executor.pid,
                tasks=slot.executor.tasks,
                memory=slot.executor.memory(),
            )
            slot.executor.stopping = True
            slot.executor.kill()
            slot.executor = None
        if slot.executor and not slot.executor.alive:
            slot.executor = None
        if slot.executor is None and self._spare:
            self._tie(slot, self._spare.pop())
        elif slot.executor is None and not self.starting(slot):
            self._begin(slot)

    def starting(self, slot: Slot) -> bool:
        """Whether an executor for this slot is on its way."""
        return slot in self._starting.values()

    def take_back(self, slot: Slot) -> None:
        """From a slot that is let go; the executor may serve another."""
        if slot.executor and slot.executor.alive:
            self._keep(slot.executor)
        slot.executor = None

    def worn(self, executor: Executor) -> bool:
        """Whether it has had its share of tasks or memory."""
        tasks, memory = self._settings.recycle_tasks, self._settings.recycle_memory * MIB
        return bool((tasks and executor.tasks >= tasks) or (memory and executor.memory() > memory))

    def too_large(self, executor: Executor) -> bool:
        limit = self._settings.memory_limit * MIB
        return bool(limit and executor.memory() > limit)

    async def keep(self, number: int) -> None:
        """Ends the executors that no slot has, but so many; has one started where there is none of these."""
        for executor in self._spare[number:]:
            await executor.stop()
        if len(self._spare) < number and not self._starting and watchdog.now() >= self.blocked_until:
            self._begin(None)

    async def stop(self, slots: list[Slot]) -> None:
        """Ends all of them."""
        for task in list(self._starting):
            task.cancel()
        for executor in [slot.executor for slot in slots if slot.executor]:
            await executor.stop()
        await self.keep(0)

    async def _start(self) -> Executor:
        executor = await Executor.start()
        log.info("executor started", executor=executor.pid, kinds=executor.kinds)
        return executor

    def _begin(self, slot: Slot | None) -> None:
        """Starts an executor for this slot, or has it given the one that is being started for no slot yet."""
        task = next((task for task, waiting in self._starting.items() if waiting is None), None)
        if task is None:
            task = asyncio.create_task(self._start_one(), name="start executor")
            task.add_done_callback(self._starting.pop)
        self._starting[task] = slot

    async def _start_one(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only ever run as one
        try:
            executor = await self._start()
        except (HandlersNotLoaded, OSError) as error:
            log.error("executor not started", error=str(error), retry_in=self._pause)
            self.blocked_until = watchdog.now() + self._pause
            self._pause = min(self._pause * 2, 30.0)
            self._agenda.look()  # the slot is let go there: others may have better luck
            return
        self._pause = 1.0
        slot = self._starting[task]
        if slot and slot.held and slot.executor is None:
            self._tie(slot, executor)
        else:
            self._keep(executor)

    def _keep(self, executor: Executor) -> None:
        """Keeps it for the next slot."""

        def died(code: int) -> None:
            self._spare.remove(executor)
            if not executor.stopping:
                log.warning("executor died", executor=executor.pid, code=code)
                self.blocked_until = watchdog.now() + self._pause
                self.on_spare_died()

        if executor.alive:
            self._spare.append(executor)
            executor.on_ended, executor.on_died = lambda _: None, died

    def _tie(self, slot: Slot, executor: Executor) -> None:
        slot.executor = executor

        def ended(message: Ended) -> None:
            slot.answered(message)
            self._agenda.ring()

        def progressed(message: Progress) -> None:
            slot.progress = bytes(message.value)
            self._agenda.ring()

        def printed(task: int, lease: int, data: bytes) -> None:
            self._words.printed(task, lease, data)
            self._agenda.ring()

        def died(code: int) -> None:
            if slot.executor is not executor:
                return
            if not executor.stopping:
                log.warning("executor died", executor=executor.pid, code=code, **slot.tag)
            slot.died(code)
            if not executor.stopping:
                self._tally.executors_died[
                    {"lost": "deadline", None: "crash"}.get(slot.reason) or str(slot.reason)
                ] += 1
            if slot.idle and slot.held and not executor.stopping:
                self.give(slot)
            self._agenda.ring()

        executor.on_ended, executor.on_died, executor.on_progress, executor.on_output = ended, died, progressed, printed
        self._agenda.wake(slot.queue_name)
