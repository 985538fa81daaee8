"""The runner: holds slots, has their tasks executed, and sees to it that nobody executes in a slot it has lost.

One coroutine does everything that touches the slot session, one statement after another: connect, take back what was
ours, then round and round: record what has ended, look when it is time, fill idle slots, ping, extend the hands'
deadlines, wait. Hands only leave their outcomes on their slots and ring `changed`.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import psycopg
import structlog

from runner import db, deadline
from runner.claimed import Claimed
from runner.hand import Hand, HandlersNotLoaded
from runner.messages import Ended, Error, Progress
from runner.output import Tail
from runner.session import SchemaTooOld, Session, SessionLost
from runner.settings import Settings
from runner.sightings import Sightings
from runner.slot import Outcome, Slot
from runner.wake import listen

PROGRESS_EVERY = 0.5
"""Seconds between two stored progress reports of one task, and between two writes of its output."""

CHORES_EVERY = 10.0
"""Seconds between two batches of chores when the last one found little to do."""

SCHEMA = 2
"""The version of the schema this program is written for."""

REGAIN_EVERY = 0.1
"""Seconds between two tries to take a slot back after a reconnect."""

GRACE = 5.0
"""Seconds assumed until the queues have said theirs."""

MIB = 1024 * 1024

log = structlog.get_logger()


class Runner:
    """One runner process. All times are on the clock of `deadline`."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._kinds: Sequence[str] = ()
        self._slots: list[Slot] = []
        self._spare: list[Hand] = []
        self._hands_from = 0.0
        self._hand_pause = 1.0
        self._starting: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._woken: set[str] = set()
        self._session: Session | None = None
        self._ghosts: list[tuple[int, datetime]] = []
        self._queues: dict[int, db.Queue] = {}
        self._free: dict[int, int] = {}
        """Free slots of each queue, as last seen."""
        self._sightings = Sightings()
        self._inherited = set(settings.inherit)
        self._connected_before = False
        self._start_after = 0.0
        self._look_at = 0.0
        self._due_at: dict[str, float] = {}
        self._tails: dict[tuple[int, int], Tail] = {}
        self._tails_from = 0.0
        self._chores_at = 0.0
        self._stop_at: float | None = None
        self._stop_sent = False

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until it was told to stop and everything is given back.

        Raises:
            HandlersNotLoaded: at the start; the text says why.
            NotDirect: DATABASE_URL leads to a pooler.
            SchemaTooOld: the database waits for `lockgate migrate`.
            psycopg.ProgrammingError: the database has no Lockgate schema, or DATABASE_URL is none.
        """
        first = await self._start_hand()
        self._kinds = first.kinds
        self._spare.append(first)
        waking = asyncio.create_task(listen(self._settings.database_url, self._name, self._heard), name="wake")
        try:
            while not self._wound_up():
                try:
                    session = await self._connect()
                    if session:
                        await self._serve(session)
                except SessionLost as lost:
                    self._lose_session(str(lost))
        finally:
            waking.cancel()
            for task in self._starting:
                task.cancel()
            hands = [slot.hand for slot in self._slots if slot.hand] + self._spare
            for hand in hands:
                await hand.stop()
            if self._session:
                await self._session.close()

    def stop(self) -> None:
        """Stops: claims no more, lets what runs finish within the stop limit. Called again: stops now."""
        now = deadline.now()
        if self._stop_at is None:
            log.info("stopping", running=sum(slot.executing for slot in self._slots), limit=self._settings.stop_limit)
            self._stop_at = now + self._settings.stop_limit
        else:
            self._stop_at = now
            for slot in self._slots:
                slot.stop("stop", 0)
        self._changed.set()

    def _wound_up(self) -> bool:
        """Whether there is nothing left to stop for. An absent database is not waited for longer than it takes."""
        if self._stop_at is None:
            return False
        owing = any(not slot.idle for slot in self._slots)
        return not owing or deadline.now() > self._stop_at + self._settings.ask_limit + GRACE

    # -- the session --------------------------------------------------------------------------------------------------

    async def _connect(self) -> Session | None:
        """A new registered session, whose ghost is ended if there was one before. None when it is time to stop."""
        pause = REGAIN_EVERY
        while not self._wound_up():
            try:
                grace = min((queue.grace for queue in self._queues.values()), default=GRACE)
                session = await Session.open(self._settings.database_url, self._name, grace)
            except SessionLost as lost:
                log.warning("database unreachable", error=str(lost), retry_in=round(pause, 1))
                self._overdue()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause * random.uniform(0.7, 1.3)):  # noqa: S311 - jitter
                        await self._changed.wait()
                self._changed.clear()
                urgent = any(slot.executing for slot in self._slots)
                pause = REGAIN_EVERY if urgent else min(pause * 2, 2.0)
                continue
            self._session = session
            await self._check_schema(session)
            for pid, backend_start in self._ghosts:
                if await db.end_backend(session, pid, backend_start):
                    log.info("own ghost ended", backend_pid=pid)
            self._ghosts.clear()
            settings = self._settings
            session.number = await db.register(session, self._name, settings.concurrency, settings.queues, self._kinds)
            await self._see_queues(session)
            now = deadline.now()
            if self._connected_before:
                # Whoever else lost his session may still execute for a grace, and so may a task of ours whose claim a
                # failover has forgotten: only slots whose tasks are confirmed go on at once.
                self._start_after = now + max((queue.grace for queue in self._queues.values()), default=GRACE)
                for slot in self._slots:
                    slot.regain_until = max(slot.until, now + 1.0)
            self._connected_before = True
            self._sightings = Sightings()
            self._look_at = 0.0
            log.info("connected", session=session.number, backend_pid=session.pid)
            return session
        return None

    async def _check_schema(self, session: Session) -> None:
        """Functions of the schema are only ever added: a newer one serves, an older one lacks something."""
        version = await db.schema_version(session)
        if version < SCHEMA:
            raise SchemaTooOld(f"the schema has version {version}, this runner needs {SCHEMA}; run `lockgate migrate`")
        if version > SCHEMA and not self._connected_before:
            log.warning("the schema is newer than this runner", version=version, known=SCHEMA)

    def _lose_session(self, why: str) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        log.warning("session lost", error=why, session=session.number, executing=sum(s.executing for s in self._slots))
        session.hang_up()
        if session.backend_start:
            self._ghosts.append((session.pid, session.backend_start))
        for slot in self._slots:
            slot.confirmed = None

    async def _serve(self, session: Session) -> None:
        """Works on this session until everything is wound up.

        Raises:
            SessionLost: it is gone; hands that execute go on until their deadlines.
        """
        while True:
            await self._regain(session)
            for slot in list(self._slots):
                if slot.outcome and deadline.now() >= slot.outcome.not_before:
                    await self._record(session, slot)
            self._overdue()
            await self._claim_where_woken(session)
            if deadline.now() >= self._look_at:
                await self._look(session)
                await self._fill(session)
            await self._do_chores(session)
            await self._store_words(session)
            if self._stop_at is not None:
                for slot in [slot for slot in self._slots if slot.idle]:
                    await self._release(session, slot)
                if self._wound_up():
                    await db.deregister(session)
                    return
            if self._slots and deadline.now() >= session.sent + self._ping_every():
                await session.ping()
            self._extend(session)
            await self._wait(session)

    def _ping_every(self) -> float:
        return min((slot.task.grace for slot in self._slots if slot.task), default=self._smallest_grace()) / 10

    def _smallest_grace(self) -> float:
        return min((queue.grace for queue in self._queues.values()), default=GRACE)

    def _extend(self, session: Session) -> None:
        """Passes the newest answered statement on to the hands as a deadline."""
        for slot in self._slots:
            if slot.executing and slot.task and slot.confirmed is not None and session.sent >= slot.confirmed:
                grace = slot.task.grace
                until = session.sent + grace - deadline.margin(grace)
                if until - slot.until >= grace / 20:
                    slot.extend(until)

    async def _wait(self, session: Session) -> None:
        """Until something rings, or the next thing is due."""
        times = [self._look_at, self._chores_at, *self._due_at.values()]
        if self._slots:
            times.append(session.sent + self._ping_every())
        if self._stop_at is not None and not self._stop_sent:
            times.append(self._stop_at)
        for slot in self._slots:
            if slot.confirmed is None:
                times.append(deadline.now() + REGAIN_EVERY)
            if slot.outcome:
                times.append(slot.outcome.not_before)
            if slot.idle and slot.confirmed is not None and slot.hand and slot.claim_from > deadline.now():
                times.append(slot.claim_from)
            if slot.progress is not None:
                times.append(slot.progress_from)
            times += [time for time in (slot.kill_at, slot.timeout_at) if time is not None and slot.executing]
        if self._tails:
            times.append(self._tails_from)
        delay = min(times) - deadline.now()
        if delay > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()
        self._changed.clear()
        now = deadline.now()
        for name in [name for name, due in self._due_at.items() if due <= now]:
            del self._due_at[name]
            self._woken.add(name)
        for slot in self._slots:
            if slot.ready and slot.claim_from > 0:
                slot.claim_from = 0.0
                self._woken.add(slot.queue_name)

    def _overdue(self) -> None:
        """Stops what has had its time: attempts over their timeout, asked handlers that kept going, a stop's limit."""
        now = deadline.now()
        if self._stop_at is not None and now >= self._stop_at and not self._stop_sent:
            self._stop_sent = True
            for slot in self._slots:
                slot.stop("stop", self._settings.ask_limit)
        for slot in self._slots:
            if not slot.executing:
                continue
            if slot.timeout_at is not None and now >= slot.timeout_at and slot.reason is None:
                slot.stop("timeout", self._settings.ask_limit)
            limit = self._settings.memory_limit * MIB
            if limit and slot.hand and slot.reason is None and slot.hand.memory() > limit:
                slot.stop("memory", 0)
            if slot.hand and slot.kill_at is not None and now >= slot.kill_at:
                log.warning("hand killed", reason=slot.reason, hand=slot.hand.pid, **slot.tag)
                slot.hand.kill()
                slot.kill_at = now + 10  # said again for as long as it does not die; its slot stays taken

    # -- after a lost session -----------------------------------------------------------------------------------------

    async def _regain(self, session: Session) -> None:
        """Takes back the slots of the lost session, and finds out what became of their tasks."""
        for slot in [slot for slot in self._slots if slot.confirmed is None]:
            if await db.retake_slot(session, slot.queue, slot.number):
                await self._reconfirm(session, slot)
            elif deadline.now() > slot.regain_until:
                if slot.executing and slot.hand:
                    slot.hand.kill()
                elif slot.outcome:
                    await self._record(session, slot)
                else:
                    log.info("slot lost", **slot.tag)
                    self._drop(slot)

    async def _reconfirm(self, session: Session, slot: Slot) -> None:
        row = await db.reconfirm(session, slot.queue, slot.number, self._name)
        # Only what is sent after that commit proves anything: an adopter that saw the old mark has given up by now.
        slot.confirmed = deadline.now()
        if row and slot.task and row.lease == slot.task.lease:
            log.info("slot kept", **slot.tag)
            if row.cancel_requested:
                self._cancel(slot, row.cancel_requested)
            return
        if slot.executing and slot.hand:
            log.warning("slot lost", **slot.tag)
            slot.claim_from = self._start_after
            slot.hand.kill()
            return
        if row:
            # The answer to a claim, or to a finish and claim, was lost; so what we finished then is recorded.
            slot.clear()
            await self._start(session, slot, row)
            return
        slot.claim_from = self._start_after

    # -- tasks --------------------------------------------------------------------------------------------------------

    async def _start(self, session: Session, slot: Slot, task: Claimed) -> None:
        """Gives a claimed task to the slot's hand, if by the clock the slot is certainly ours at this moment."""
        grace = task.grace
        while (until := session.sent + grace - deadline.margin(grace)) <= deadline.now() or (
            slot.confirmed is not None and session.sent < slot.confirmed
        ):
            await session.ping()
        if slot.hand is None or not slot.hand.alive:
            await db.give_back(session, task, self._name)
            log.warning("given back", reason="no hand", **slot.tag)
            return
        slot.start(slot.hand, task, until)
        log.info("taken", **slot.tag)

    async def _record(self, session: Session, slot: Slot) -> None:
        """Records the outcome of a slot's task, and claims the next where that is one statement."""
        task, outcome = slot.task, slot.outcome
        if task is None or outcome is None:
            return
        ended, claimed = outcome.ended, None
        try:
            if slot.progress is not None:
                await db.report_progress(session, task, self._name, slot.progress)
                slot.progress = None
            if ended.outcome == "returned" and self._may_claim(slot):
                claimed = await db.finish_and_claim(
                    session, task, self._name, outcome.seconds, bytes(ended.result), slot.queue, slot.number
                )
                status = "succeeded"
            elif ended.outcome == "returned":
                await db.finish(session, task, self._name, outcome.seconds, bytes(ended.result))
                status = "succeeded"
            elif slot.reason == "stop":
                status = await db.give_back(session, task, self._name)
            else:
                status = await db.fail(
                    session, task, self._name, outcome.seconds, ended.error, ended.retry_after,
                    ended.outcome == "discard",
                )  # fmt: skip
        except psycopg.Error as error:
            self._refused(slot, task, outcome, error)
            return
        event = {"succeeded": "finished", "cancelled": "cancelled"}.get(status, "failed")
        if slot.reason == "stop" and event == "failed":
            event = "given back"
        said = {"error": f"{ended.error.type}: {ended.error.message}"[:500]} if ended.error else {}
        log.info(event, status=status, seconds=round(outcome.seconds, 3), **said, **slot.tag)
        slot.clear()
        if claimed:
            await self._start(session, slot, claimed)
        else:
            self._settle(slot)

    def _refused(self, slot: Slot, task: Claimed, outcome: Outcome, error: psycopg.Error) -> None:
        """The database lives and did not take an outcome: somebody else's by now, unfit to be stored, or not now."""
        sqlstate = error.sqlstate or ""
        if sqlstate == "LG002":
            log.warning("lease lost", seconds=round(outcome.seconds, 3), **slot.tag)
            slot.clear()
            self._settle(slot)
        elif sqlstate == "LG004":
            slot.confirmed, slot.regain_until = None, deadline.now() + 1.0
        elif sqlstate[:2] in ("22", "23") or isinstance(error, psycopg.DataError):
            unfit = Error("ResultNotStorable", f"the result cannot be stored: {error.diag.message_primary or error}")
            slot.outcome = Outcome(Ended(task.lease, "raised", error=unfit), outcome.seconds)
        else:
            outcome.tries += 1
            outcome.not_before = deadline.now() + min(0.1 * 2**outcome.tries, 5.0)
            log.error("outcome not recorded", sqlstate=sqlstate, error=str(error).strip(), **slot.tag)

    def _settle(self, slot: Slot) -> None:
        """After a task without a next one: a slot in doubt goes, a dead hand is replaced, a yielding slot is let go."""
        if slot.confirmed is None:
            self._drop(slot)
            return
        if slot.hand is not None and (not slot.hand.alive or self._worn(slot.hand)):
            if slot.hand.alive:
                log.info("hand replaced", hand=slot.hand.pid, tasks=slot.hand.tasks, memory=slot.hand.memory())
                slot.hand.stopping = True
                slot.hand.kill()
            slot.hand = None
        self._give_hand(slot)
        if slot.yielding:
            self._look_at = 0.0
        else:
            self._woken.add(slot.queue_name)

    def _may_claim(self, slot: Slot) -> bool:
        queue = self._queues.get(slot.queue)
        return (
            self._stop_at is None
            and slot.confirmed is not None
            and not slot.yielding
            and slot.hand is not None
            and slot.hand.alive
            and not self._worn(slot.hand)
            and deadline.now() >= slot.claim_from
            and queue is not None
            and slot.number <= queue.slots
        )

    def _worn(self, hand: Hand) -> bool:
        """Whether it has had its share of tasks or memory."""
        tasks, memory = self._settings.recycle_tasks, self._settings.recycle_memory * MIB
        return bool((tasks and hand.tasks >= tasks) or (memory and hand.memory() > memory))

    async def _store_words(self, session: Session) -> None:
        """Stores what handlers have reported and printed; a refusal is logged, and not worth more than that."""
        now = deadline.now()
        try:
            for slot in self._slots:
                if slot.executing and slot.task and slot.progress is not None and now >= slot.progress_from:
                    progress, slot.progress = slot.progress, None
                    slot.progress_from = now + PROGRESS_EVERY
                    await db.report_progress(session, slot.task, self._name, progress)
                    if slot.hand:
                        slot.hand.heard()
            if self._tails and now >= self._tails_from:
                tails, self._tails = self._tails, {}
                self._tails_from = now + PROGRESS_EVERY
                for (task, lease), tail in tails.items():
                    await db.write_output(session, task, lease, tail.text())
        except psycopg.Error as error:
            log.warning("words not stored", error=str(error).strip())

    async def _do_chores(self, session: Session) -> None:
        """Removes ended tasks whose time is over, if no other runner has the chores."""
        if deadline.now() < self._chores_at:
            return
        try:
            removed = await db.tidy(session)
        except psycopg.Error as error:
            log.warning("chores not done", error=str(error).strip())
            removed = None
        pause = CHORES_EVERY * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self._chores_at = deadline.now() + (0.05 if removed else pause)
        if removed:
            log.debug("removed", tasks=removed)

    def _cancel(self, slot: Slot, mode: str) -> None:
        if slot.executing and (slot.reason is None or mode == "force"):
            log.info("cancel asked", mode=mode, **slot.tag)
            slot.stop("cancel", 0 if mode == "force" else self._settings.ask_limit)
            self._overdue()

    # -- looking and claiming -----------------------------------------------------------------------------------------

    def _heard(self, text: str) -> None:
        """A notification: says where to look, and is never believed."""
        subject, _, name = text.partition(" ")
        if subject == "queue":
            self._woken.add(name)
        elif subject == "cancel":
            if not any(slot.task and str(slot.task.task) == name for slot in self._slots):
                return
            self._look_at = 0.0
        else:
            self._look_at = 0.0
        self._changed.set()

    async def _claim_where_woken(self, session: Session) -> None:
        """The quick way: a claim for each idle slot of a queue that has, or may have, something due."""
        woken, self._woken = self._woken, set()
        for name in woken:
            ready = [slot for slot in self._slots if slot.queue_name == name and slot.ready and self._may_claim(slot)]
            for slot in ready:
                if not await self._claim(session, slot):
                    break
            if not ready and any(slot.ready and slot.queue_name != name for slot in self._slots):
                self._look_at = 0.0  # an idle slot elsewhere may be worth changing for one here

    async def _claim(self, session: Session, slot: Slot) -> bool:
        task = await db.claim(session, slot.queue, slot.number, self._name)
        if task:
            await self._start(session, slot, task)
        return task is not None

    async def _see_queues(self, session: Session) -> None:
        self._queues = {queue.queue: queue for queue in await db.look(session, self._settings.queues)}
        if self._smallest_grace() != session.grace:
            await session.fit(self._smallest_grace())
        now = deadline.now()
        mine = {slot.queue_name for slot in self._slots}
        self._due_at = {
            queue.name: now + queue.next_due
            for queue in self._queues.values()
            if queue.next_due is not None and queue.next_due > 0 and queue.name in mine
        }

    async def _look(self, session: Session) -> None:
        """Looks at the queues and at all occupied slots; adopts, ends silent holders, hears of cancels."""
        await self._see_queues(session)
        rows = await db.watch(session)
        now = deadline.now()
        ours = {(slot.queue, slot.number): slot for slot in self._slots}
        for row in rows:
            slot = ours.get((row.queue, row.slot))
            if slot and slot.task and row.cancel_requested and row.lease == slot.task.lease:
                self._cancel(slot, row.cancel_requested)
        verdict = self._sightings.judge(rows, now, pid=session.pid, slots=ours, inherited=self._inherited)
        for silent in verdict.silent:
            await self._end_silent(session, silent)
        for orphan in verdict.orphans:
            await self._adopt(session, orphan)
        taken = dict.fromkeys(self._queues, 0)
        for row in rows:
            if row.queue in taken and row.slot <= self._queues[row.queue].slots:
                taken[row.queue] += 1
        self._free = {queue: self._queues[queue].slots - count for queue, count in taken.items()}
        self._look_at = now + self._settings.poll * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        if self._inherited and any(row.runner in self._inherited for row in rows):
            self._look_at = now + 0.02
            self._free.clear()
        else:
            self._inherited.clear()

    async def _end_silent(self, session: Session, silent: db.Occupied) -> None:
        if silent.pid is None or silent.backend_start is None:
            return
        try:
            ended = await db.end_backend(session, silent.pid, silent.backend_start)
        except psycopg.Error as error:
            log.error("silent holder cannot be ended", backend_pid=silent.pid, error=str(error).strip())
            return
        if ended:
            log.warning("silent holder ended", backend_pid=silent.pid, slot=silent.slot, task=silent.task)

    async def _adopt(self, session: Session, orphan: db.Occupied) -> None:
        """Puts the task of a dead runner back. The slot is let go again; whoever has room takes it."""
        if not await db.retake_slot(session, orphan.queue, orphan.slot):
            return
        try:
            status = await db.adopt(session, orphan)
        finally:
            await db.release_slot(session, orphan.queue, orphan.slot)
        if status:
            log.warning(
                "adopted", task=orphan.task, queue=self._name_of(orphan.queue), slot=orphan.slot, lease=orphan.lease,
                lost_runner=orphan.runner, status=status,
            )  # fmt: skip
            self._look_at = 0.0

    def _name_of(self, queue: int) -> str:
        known = self._queues.get(queue)
        return known.name if known else f"#{queue}"

    # -- slots --------------------------------------------------------------------------------------------------------

    async def _fill(self, session: Session) -> None:
        """Claims for idle slots, takes slots while there is room, and moves idle ones to where the work is."""
        if self._stop_at is not None:
            return
        for slot in [slot for slot in self._slots if slot.idle and slot.confirmed is not None]:
            queue = self._queues.get(slot.queue)
            if queue is None or slot.number > queue.slots:
                await self._release(session, slot)
        wanted = [queue for queue in self._queues.values() if not queue.paused]
        random.shuffle(wanted)
        wanted.sort(key=lambda queue: not queue.due)
        for queue in wanted:
            if queue.due:
                self._woken.add(queue.name)
            while self._has_room() and self._free.get(queue.queue, 0) > 0:
                if not await self._take(session, queue):
                    break
        for queue in wanted:
            if queue.due and not self._has_room() and self._free.get(queue.queue, 0) > 0:
                await self._change_to(session, queue)
        await self._claim_where_woken(session)
        while self._spare:
            await self._spare.pop().stop()  # a standby needs no hand

    def _has_room(self) -> bool:
        return len(self._slots) < self._settings.concurrency and deadline.now() >= self._hands_from

    async def _take(self, session: Session, queue: db.Queue) -> Slot | None:
        number = await db.take_slot(session, queue.queue)
        if number is None:
            self._free[queue.queue] = 0
            return None
        self._free[queue.queue] -= 1
        slot = Slot(queue.queue, queue.name, number, confirmed=deadline.now(), claim_from=self._start_after)
        if slot.claim_from <= deadline.now():
            slot.claim_from = 0.0
        self._slots.append(slot)
        log.info("slot taken", **slot.tag)
        self._give_hand(slot)
        return slot

    async def _change_to(self, session: Session, queue: db.Queue) -> None:
        """Trades a slot of another queue for one of this queue: an idle one now, else a busy one after its task."""
        if any(slot.queue == queue.queue and slot.idle for slot in self._slots):
            return
        others = [slot for slot in self._slots if slot.queue != queue.queue and slot.confirmed is not None]
        idle = next((s for s in others if s.idle and (s.yielding or not self._queues[s.queue].due)), None)
        if idle:
            self._slots.remove(idle)
            await db.release_slot(session, idle.queue, idle.number)
            if idle.hand:
                self._spare.append(idle.hand)
            await self._take(session, queue)
        elif others and not any(slot.yielding for slot in others):
            min(others, key=lambda slot: slot.started).yielding = True

    async def _release(self, session: Session, slot: Slot) -> None:
        await db.release_slot(session, slot.queue, slot.number)
        log.info("slot released", **slot.tag)
        self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        if slot in self._slots:
            self._slots.remove(slot)
        if slot.hand and slot.hand.alive:
            self._spare.append(slot.hand)
        slot.hand = None
        self._look_at = 0.0

    # -- hands --------------------------------------------------------------------------------------------------------

    async def _start_hand(self) -> Hand:
        hand = await Hand.start()
        log.info("hand started", hand=hand.pid, kinds=hand.kinds)
        return hand

    def _give_hand(self, slot: Slot) -> None:
        """Sees to it that the slot has, or gets, a hand: pings go on while one starts."""
        if slot.hand is None and self._spare:
            self._attach(slot, self._spare.pop())
        elif slot.hand is None:
            starting = asyncio.create_task(self._start_hand_for(slot), name="start hand")
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)

    async def _start_hand_for(self, slot: Slot) -> None:
        try:
            hand = await self._start_hand()
        except (HandlersNotLoaded, OSError) as error:
            log.error("hand not started", error=str(error), retry_in=self._hand_pause)
            self._hands_from = deadline.now() + self._hand_pause
            self._hand_pause = min(self._hand_pause * 2, 30.0)
            slot.yielding = True
            self._changed.set()
            return
        self._hand_pause = 1.0
        if slot in self._slots and slot.hand is None:
            self._attach(slot, hand)
        else:
            self._spare.append(hand)
        self._changed.set()

    def _attach(self, slot: Slot, hand: Hand) -> None:
        slot.hand = hand
        self._woken.add(slot.queue_name)

        def ended(message: Ended) -> None:
            slot.answered(message)
            self._changed.set()

        def died(code: int) -> None:
            if slot.hand is not hand:
                return
            if not hand.stopping:
                log.warning("hand died", hand=hand.pid, code=code, **slot.tag)
            slot.died(code)
            if slot.idle and not hand.stopping:
                slot.hand = None
                if slot in self._slots:
                    self._give_hand(slot)
            self._changed.set()

        def progressed(message: Progress) -> None:
            slot.progress = bytes(message.value)
            self._changed.set()

        def printed(task: int, lease: int, data: bytes) -> None:
            self._tails.setdefault((task, lease), Tail()).add(data)
            self._changed.set()

        hand.on_ended, hand.on_died, hand.on_progress, hand.on_output = ended, died, progressed, printed
