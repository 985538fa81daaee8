"""The slots of a runner: taken, regained after a lost session, filled with tasks, released."""

import math
import random
from collections.abc import Iterable

import structlog

from lockgate_runner import db
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.pool import ExecutorPool
from lockgate_runner.metrics import Counters
from lockgate_runner.session import Session
from lockgate_runner.settings import Settings
from lockgate_runner.slot import Slot
from lockgate_runner.wakeups import Wakeups

GRACE = 5.0
"""Seconds assumed until the database has told the grace of the queues."""

REGAIN_EVERY = 0.1
"""Seconds between two tries to take a slot back, and to connect while an executor may be executing."""

KILL_AGAIN = 10.0
"""Seconds after which an executor that was killed, and is not dead, is killed again. Its slot stays taken."""

STANDBY_POLLS = 2
"""Polls that all standbys share in the time of one, however many they are."""

STANDBY_POLL_MOST = 60.0
"""Seconds after which each of them polls nevertheless: the others may all have died at once."""

log = structlog.get_logger()


class Slots:
    """The slots this runner holds, what it knows of the queues, and when it stops."""

    def __init__(
        self, settings: Settings, name: str, pool: ExecutorPool[Slot], wakeups: Wakeups, counters: Counters
    ) -> None:
        self.all: list[Slot] = []
        self.queues: dict[int, db.Queue] = {}
        self.free: dict[int, int] = {}
        """Free slots of each queue, at the last poll."""
        self.start_after = 0.0
        """After a lost session: no task starts before this time, except in a slot whose own task was kept."""
        self.draining = False
        """Whether an operator drains this runner: it claims nothing until it is resumed."""
        self.stop_claiming = False
        """The first stop: no task starts any more, and idle slots are released."""
        self.stop_working_at = math.inf
        """The second stop: handlers that still execute then are interrupted, and their tasks returned."""
        self._settings = settings
        self._name = name
        self._pool = pool
        self._wakeups = wakeups
        self._counters = counters

    @property
    def executing(self) -> int:
        """The number of slots in which a handler executes."""
        return sum(slot.executing for slot in self.all)

    @property
    def smallest_grace(self) -> float:
        return min((queue.grace for queue in self.queues.values()), default=GRACE)

    @property
    def ping_every(self) -> float:
        return min((slot.task.grace for slot in self.all if slot.task), default=self.smallest_grace) / 10

    @property
    def has_room(self) -> bool:
        return (
            not self.draining
            and len(self.all) < self._settings.concurrency
            and watchdog.now() >= self._pool.blocked_until
        )

    def count_free(self, occupied: Iterable[db.Occupied]) -> None:
        """Counts the free slots of each queue after a poll."""
        self.free = {queue.queue: queue.slots for queue in self.queues.values()}
        for row in occupied:
            if row.queue in self.free and row.slot <= self.queues[row.queue].slots:
                self.free[row.queue] -= 1

    def standby_pace(self) -> float:
        """Returns how many times as long as others this runner waits between two polls: standbys share them."""
        if self.all or any(self.free.get(queue, 0) > 0 for queue in self.queues):
            return 1.0
        standing_by = max((queue.standing_by or 0 for queue in self.queues.values()), default=0)
        return max(1.0, min(standing_by / STANDBY_POLLS, STANDBY_POLL_MOST / self._settings.poll))

    def times(self) -> Iterable[float]:
        """Yields when there is something to do next."""
        for slot in self.all:
            if slot.confirmed is None:
                yield watchdog.now() + REGAIN_EVERY
            elif slot.outcome:
                yield slot.outcome.not_before
            elif slot.idle and slot.claim_from > 0:
                yield slot.claim_from
            if slot.executing:
                yield slot.kill_at
                if slot.reason is None:
                    yield min(slot.timeout_at, self.stop_working_at)

    # -- deadlines ----------------------------------------------------------------------------------------------------

    def extend(self, session: Session) -> None:
        """Passes the sending time of the newest answered statement on to the executors, as a deadline."""
        for slot in self.all:
            if slot.executing and slot.task and slot.confirmed is not None and session.sent >= slot.confirmed:
                grace = slot.task.grace
                until = session.sent + grace - watchdog.margin(grace)
                if until - slot.until >= grace / 20:
                    slot.extend(until)

    def stop_overdue(self) -> None:
        """Interrupts handlers whose time is over, and kills those that do not end."""
        now, kill_after = watchdog.now(), self._settings.kill_after
        for slot in [slot for slot in self.all if slot.executing]:
            executor = slot.executor
            if executor is None or executor.lease is None:
                continue  # it has answered or died, and the runner has not taken that yet
            if slot.reason is None and now >= self.stop_working_at:
                slot.stop("stop", kill_after)
            if slot.reason is None and now >= slot.timeout_at:
                slot.stop("timeout", kill_after)
            if slot.reason is None and self._pool.is_too_large(executor):
                slot.stop("memory", 0)
            if watchdog.now() >= slot.kill_at:
                log.warning("executor killed", reason=slot.reason, executor=executor.pid, **slot.tag)
                executor.kill()
                slot.kill_at = now + KILL_AGAIN

    # -- after a lost session -----------------------------------------------------------------------------------------

    async def regain(self, session: Session) -> None:
        """Takes back the slots of the lost session, and finds out what became of their tasks."""
        lost = [slot for slot in self.all if slot.confirmed is None]
        for slot in sorted(lost, key=lambda slot: not slot.executing):
            if await db.retake_slot(session, slot.queue, slot.number):
                await self._reconfirm(session, slot)
            elif watchdog.now() > slot.regain_until:
                if slot.executing and slot.executor:
                    slot.executor.kill()
                elif slot.idle:
                    log.info("slot lost", **slot.tag)
                    self._drop(slot)

    async def _reconfirm(self, session: Session, slot: Slot) -> None:
        row = await db.reconfirm(session, slot.queue, slot.number, self._name)
        # Only what is sent after that commit proves anything: an adopter that saw the old mark has given up by now.
        slot.confirmed = watchdog.now()
        if row and slot.task and row.lease == slot.task.lease:
            log.info("slot kept", **slot.tag)
            # The executor hears of it at once: what comes next may wait for a standby, as commits do.
            await session.ping()
            self.extend(session)
            if row.cancel_requested:
                slot.cancel(row.cancel_requested, self._settings.kill_after)
        elif slot.executing and slot.executor:
            log.warning("slot lost", **slot.tag)
            slot.claim_from = self.start_after
            slot.executor.kill()
        elif row:
            # The answer to a claim, or to a finish and claim, was lost; so what we finished then is recorded.
            slot.clear()
            await db.wait_until_durable(session)
            if await self.start(session, slot, row):
                log.info("taken", **slot.tag)
        else:
            slot.claim_from = self.start_after

    # -- tasks --------------------------------------------------------------------------------------------------------

    def may_claim(self, slot: Slot) -> bool:
        """Whether a new task may start in this slot, once its present one is recorded."""
        queue = self.queues.get(slot.queue)
        return (
            not self.stop_claiming
            and not self.draining
            and slot.confirmed is not None
            and not slot.yielding
            and slot.executor is not None
            and slot.executor.alive
            and not self._pool.is_worn(slot.executor)
            and watchdog.now() >= slot.claim_from
            and queue is not None
            and slot.number <= queue.slots
            # A database that cannot record an end should not be asked for a beginning.
            and not any(other.outcome and other.outcome.refusals for other in self.all)
        )

    async def claim(self, session: Session) -> None:
        """Claims for each idle slot of a queue that has, or may have, a due task."""
        for slot in self.all:
            if slot.idle and 0 < slot.claim_from <= watchdog.now():
                slot.claim_from = 0.0
                self._wakeups.wake(slot.queue_name)
        for name in self._wakeups.woken():
            ready = [slot for slot in self.all if slot.idle and slot.queue_name == name and self.may_claim(slot)]
            for slot in ready:
                task = await db.claim(session, slot.queue, slot.number, self._name)
                if task is None:
                    break
                if await self.start(session, slot, task):
                    log.info("taken", **slot.tag)
            if not ready and any(slot.idle and slot.queue_name != name for slot in self.all):
                self._wakeups.poll()  # an idle slot elsewhere may be worth changing for one here

    async def start(self, session: Session, slot: Slot, task: db.Claimed) -> bool:
        """Gives a claimed task to the slot's executor, once the slot is certainly ours by the clock.

        Returns whether the executor has it. A task without an executor is returned to the queue.
        """
        grace = task.grace
        while (until := session.sent + grace - watchdog.margin(grace)) <= watchdog.now() or (
            slot.confirmed is not None and session.sent < slot.confirmed
        ):
            await session.ping()
        if slot.executor is None or not slot.executor.alive:
            await db.return_task(session, task, self._name)
            log.warning("returned", reason="no executor", task=task.task, lease=task.lease, **slot.tag)
            return False
        slot.start(slot.executor, task, until)
        self._counters.claims += 1
        if task.cancel_requested:
            slot.cancel(task.cancel_requested, self._settings.kill_after)
        return True

    def settle(self, slot: Slot) -> None:
        """After a task without a next one: drops a slot in doubt, replaces a dead or worn executor."""
        if slot.confirmed is None:
            self._drop(slot)
            return
        self._pool.assign(slot)
        if slot.yielding or self.draining:
            self._wakeups.poll()
        else:
            self._wakeups.wake(slot.queue_name)

    def assign_executor(self, slot: Slot) -> None:
        """Gives the slot an executor, and claims for it when it has one."""
        self._pool.assign(slot)
        if slot.executor:
            self._wakeups.wake(slot.queue_name)

    # -- taking and releasing -----------------------------------------------------------------------------------------

    async def fill(self, session: Session) -> None:
        """Releases slots of no use, takes free ones, and changes idle ones for those of queues with due tasks."""
        for slot in [slot for slot in self.all if slot.idle and slot.confirmed is not None]:
            queue = self.queues.get(slot.queue)
            without = slot.executor is None and not self._pool.is_starting(slot)
            if queue is None or slot.number > queue.slots or without or self.draining:
                await self.release(session, slot)
        wanted = [queue for queue in self.queues.values() if not queue.paused and not self.draining]
        random.shuffle(wanted)
        wanted.sort(key=lambda queue: not queue.due)
        for queue in wanted:
            while self.has_room and self.free.get(queue.queue, 0) > 0:
                if not await self._take(session, queue):
                    break
        for queue in wanted:
            if queue.due and not self.has_room and self.free.get(queue.queue, 0) > 0:
                await self._change_to(session, queue)
            if queue.due:
                self._wakeups.wake(queue.name)
        for slot in self.all:
            if slot.idle:
                slot.yielding = False  # nothing came of it: the work elsewhere is done or another runner's

    async def _take(self, session: Session, queue: db.Queue) -> bool:
        number = await db.take_slot(session, queue.queue)
        if number is None:
            self.free[queue.queue] = 0
            return False
        self.free[queue.queue] -= 1
        claim_from = self.start_after if self.start_after > watchdog.now() else 0.0
        slot = Slot(queue.queue, queue.name, number, confirmed=watchdog.now(), claim_from=claim_from)
        self.all.append(slot)
        log.info("slot taken", **slot.tag)
        self.assign_executor(slot)
        return True

    async def _change_to(self, session: Session, queue: db.Queue) -> None:
        """Changes a slot of another queue for one of this queue: an idle one now, else a busy one after its task."""
        if any(slot.queue == queue.queue and slot.idle for slot in self.all):
            return
        others = [slot for slot in self.all if slot.queue != queue.queue and slot.confirmed is not None]
        busy = {queue.queue for queue in self.queues.values() if queue.due and not queue.paused}
        idle = next((slot for slot in others if slot.idle and (slot.yielding or slot.queue not in busy)), None)
        if idle:
            await self.release(session, idle)
            await self._take(session, queue)
        elif others and not any(slot.yielding for slot in others):
            min(others, key=lambda slot: slot.started).yielding = True

    async def release(self, session: Session, slot: Slot) -> None:
        """Releases a slot; a runner that drains also tells the standbys."""
        if self.draining:
            await db.pass_slot_on(session, slot.queue, slot.number)
        else:
            await db.release_slot(session, slot.queue, slot.number)
        log.info("slot released", **slot.tag)
        self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        self.all.remove(slot)
        self._pool.take_back(slot)
        self._wakeups.poll()
