"""The hands of a runner: one for each slot it holds, started beside its work, replaced when dead or worn."""

import asyncio
from collections.abc import Callable

import structlog

from runner import deadline
from runner.agenda import Agenda
from runner.hand import Hand, HandlersNotLoaded
from runner.messages import Ended, Progress
from runner.settings import Settings
from runner.slot import Slot
from runner.tally import Tally
from runner.words import Words

MIB = 1024 * 1024

log = structlog.get_logger()


class Hands:
    """Starts hands and ties each to its slot."""

    def __init__(self, settings: Settings, agenda: Agenda, words: Words, tally: Tally) -> None:
        self.blocked_until = 0.0
        """After a hand that did not start, or died idle: no new slot before this time, on the clock of `deadline`."""
        self.on_spare_died: Callable[[], None] = lambda: None
        """A hand that no slot has is dead, and was not told to end."""
        self._settings = settings
        self._agenda = agenda
        self._words = words
        self._tally = tally
        self._spare: list[Hand] = []
        self._starting: dict[asyncio.Task[None], Slot | None] = {}
        self._pause = 1.0

    async def first(self) -> Hand:
        """Starts the first hand, which proves that the handlers load, and knows their kinds.

        Raises:
            HandlersNotLoaded: they do not.
        """
        hand = await self._start()
        self._keep(hand)
        return hand

    def give(self, slot: Slot) -> None:
        """Sees to it that the slot has, or will have, a hand fit for work; pings go on while one starts."""
        if slot.hand and slot.hand.alive and self.worn(slot.hand):
            log.info("hand replaced", hand=slot.hand.pid, tasks=slot.hand.tasks, memory=slot.hand.memory())
            slot.hand.stopping = True
            slot.hand.kill()
            slot.hand = None
        if slot.hand and not slot.hand.alive:
            slot.hand = None
        if slot.hand is None and self._spare:
            self._tie(slot, self._spare.pop())
        elif slot.hand is None and not self.starting(slot):
            self._begin(slot)

    def starting(self, slot: Slot) -> bool:
        """Whether a hand for this slot is on its way."""
        return slot in self._starting.values()

    def take_back(self, slot: Slot) -> None:
        """From a slot that is let go; the hand may serve another."""
        if slot.hand and slot.hand.alive:
            self._keep(slot.hand)
        slot.hand = None

    def worn(self, hand: Hand) -> bool:
        """Whether it has had its share of tasks or memory."""
        tasks, memory = self._settings.recycle_tasks, self._settings.recycle_memory * MIB
        return bool((tasks and hand.tasks >= tasks) or (memory and hand.memory() > memory))

    def too_large(self, hand: Hand) -> bool:
        limit = self._settings.memory_limit * MIB
        return bool(limit and hand.memory() > limit)

    async def keep(self, number: int) -> None:
        """Ends the hands that no slot has, but so many; has one started where there is none of these."""
        for hand in self._spare[number:]:
            await hand.stop()
        if len(self._spare) < number and not self._starting and deadline.now() >= self.blocked_until:
            self._begin(None)

    async def stop(self, slots: list[Slot]) -> None:
        """Ends all of them."""
        for task in list(self._starting):
            task.cancel()
        for hand in [slot.hand for slot in slots if slot.hand]:
            await hand.stop()
        await self.keep(0)

    async def _start(self) -> Hand:
        hand = await Hand.start()
        log.info("hand started", hand=hand.pid, kinds=hand.kinds)
        return hand

    def _begin(self, slot: Slot | None) -> None:
        """Starts a hand for this slot, or has it given the one that is being started for no slot yet."""
        task = next((task for task, waiting in self._starting.items() if waiting is None), None)
        if task is None:
            task = asyncio.create_task(self._start_one(), name="start hand")
            task.add_done_callback(self._starting.pop)
        self._starting[task] = slot

    async def _start_one(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only ever run as one
        try:
            hand = await self._start()
        except (HandlersNotLoaded, OSError) as error:
            log.error("hand not started", error=str(error), retry_in=self._pause)
            self.blocked_until = deadline.now() + self._pause
            self._pause = min(self._pause * 2, 30.0)
            self._agenda.look()  # the slot is let go there: others may have better luck
            return
        self._pause = 1.0
        slot = self._starting[task]
        if slot and slot.held and slot.hand is None:
            self._tie(slot, hand)
        else:
            self._keep(hand)

    def _keep(self, hand: Hand) -> None:
        """Keeps it for the next slot."""

        def died(code: int) -> None:
            self._spare.remove(hand)
            if not hand.stopping:
                log.warning("hand died", hand=hand.pid, code=code)
                self.blocked_until = deadline.now() + self._pause
                self.on_spare_died()

        if hand.alive:
            self._spare.append(hand)
            hand.on_ended, hand.on_died = lambda _: None, died

    def _tie(self, slot: Slot, hand: Hand) -> None:
        slot.hand = hand

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
            if slot.hand is not hand:
                return
            if not hand.stopping:
                log.warning("hand died", hand=hand.pid, code=code, **slot.tag)
            slot.died(code)
            if not hand.stopping:
                self._tally.hands_died[{"lost": "deadline", None: "crash"}.get(slot.reason) or str(slot.reason)] += 1
            if slot.idle and slot.held and not hand.stopping:
                self.give(slot)
            self._agenda.ring()

        hand.on_ended, hand.on_died, hand.on_progress, hand.on_output = ended, died, progressed, printed
        self._agenda.wake(slot.queue_name)
