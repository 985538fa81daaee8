"""The runner: holds slots, has their tasks executed, and sees to it that nobody executes in a slot it has lost.

One coroutine does everything that touches the slot session, one statement after another: connect, take back what was
ours, then round and round: record what has ended, claim, look when it is time, ping, extend the executors' deadlines,
wait. What happens beside it (an executor answers or dies, a notification comes) only leaves a note on a slot and rings
the agenda.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import psycopg
import structlog

from lockgate_runner import db
from lockgate_runner.activation import Activation
from lockgate_runner.adoption import Neighbours
from lockgate_runner.claimed import Claimed
from lockgate_runner.counters import Tally
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.pool import Executors
from lockgate_runner.executor.protocol import Ended, Error
from lockgate_runner.listening import listen
from lockgate_runner.reports import Words
from lockgate_runner.session import SchemaTooOld, Session, SessionLost
from lockgate_runner.settings import Settings
from lockgate_runner.slots import Outcome, Slot
from lockgate_runner.wakeups import Agenda

SCHEMA = 1
"""The version of the schema this program is written for."""

GRACE = 5.0
"""Seconds assumed until the queues have said theirs."""

REGAIN_EVERY = 0.1
"""Seconds between two tries to connect, and to take a slot back, while an executor may be executing."""

REFUSED_FOR = 0.5
"""Seconds to wait after the database lives but refuses what a runner cannot do without."""

CHORES_EVERY = 10.0
"""Seconds between two batches of chores when the last one found nothing to do."""

LOOKS_PER_POLL = 2
"""Looks in which all runners that stand by share, however many they are."""

LOOK_MOST = 60.0
"""Seconds after which each of them looks nevertheless: the others may all have died at once."""

SCHEMAS_LIMIT = 128 * 1024
"""Bytes of JSON Schemas a runner tells of; the database takes twice that, written in its way."""

ROLL_UP_BATCH = 1000
"""Ends that are counted in one statement: some milliseconds, which whoever waits for this session has to spare."""

log = structlog.get_logger()


class Runner:
    """One runner process. Times are on the clock of `deadline`."""

    def __init__(self, settings: Settings, name: str, activation: Activation | None = None) -> None:
        self._settings = settings
        self._name = name
        self._activation = activation
        """What it waits for once it is loaded; None for a runner without a supervisor."""
        self._waiting = False
        self._keep_executor = False
        """Whether to have one executor also without a slot."""
        self._metrics = settings.metrics
        self._kinds: Sequence[str] = ()
        self._schemas: Mapping[str, msgspec.Raw] = {}
        self._announced = 0
        """The session that has told them."""
        self._agenda = Agenda()
        self._tally = Tally()
        self._words = Words(name)
        self._executors = Executors(settings, self._agenda, self._words, self._tally)
        self._neighbours = Neighbours()
        self._slots: list[Slot] = []
        self._queues: dict[int, db.Queue] = {}
        self._free: dict[int, int] = {}
        """Free slots of each queue, as last seen."""
        self._pace = 1.0
        """How many times as long as others it waits between two looks."""
        self._session: Session | None = None
        self._waking: asyncio.Task[None] | None = None
        self._ghosts: list[tuple[int, datetime]] = []
        self._connected_before = False
        self._start_after = 0.0
        self._chores_at = 0.0
        self._stop_at: float | None = None
        self._stop_said = False
        self._draining = False
        """Whether it was told to take no more tasks, without being told to stop."""

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until it was told to stop and everything is given back.

        Raises:
            HandlersNotLoaded: at the start; the text says why.
            NotDirect: DATABASE_URL leads to a pooler.
            SchemaTooOld: the database waits for `lockgate migrate`.
            psycopg.ProgrammingError: the database has no Lockgate schema, the login may not use it, or DATABASE_URL is
                no such thing.
        """
        executor = await self._executors.first()
        self._kinds, self._schemas = executor.kinds, executor.schemas
        if self._activation and not await self._activated(self._activation):
            await self._executors.keep(0)
            return
        if self._metrics:
            from lockgate.metrics import serve  # 20 ms that others do not wait for
            from lockgate_runner.metrics import Families

            serve(self._metrics, Families(self._tally))
        try:
            while not self._wound_up():
                try:
                    session = await self._connect()
                    if session:
                        await self._serve(session)
                except SessionLost as lost:
                    self._lose_session(str(lost))
                except psycopg.ProgrammingError:
                    raise
                except psycopg.Error as error:
                    self._lose_session(f"refused: {str(error).strip()}")
                    await asyncio.sleep(REFUSED_FOR)
        finally:
            if self._waking:
                self._waking.cancel()
            await self._executors.stop(self._slots)
            if self._session:
                await self._session.close()

    async def _activated(self, activation: Activation) -> bool:
        """Waits, with nothing but an executor, until a runner is needed in the place of a dead one; whether one is."""
        self._waiting = True
        self._executors.on_spare_died = activation.dismiss
        if self._stop_at is not None:
            activation.dismiss()
        elif not activation.is_here:
            log.info("spare ready")
        go_ahead = await activation.go_ahead()
        self._waiting = False
        self._executors.on_spare_died = self._agenda.look
        if go_ahead is None:
            return False
        self._keep_executor = go_ahead.keep_executor
        self._metrics = go_ahead.metrics or self._metrics
        if go_ahead.inherit:
            log.info("takes over", predecessor=go_ahead.inherit[-1])
            self._neighbours.inherit(go_ahead.inherit)
        return True

    def stop(self) -> None:
        """Stops: claims no more, lets what runs finish within the shutdown timeout. Called again: stops now."""
        now = watchdog.now()
        if self._activation and self._waiting:
            self._activation.dismiss()
            self._stop_at = now  # the go-ahead may have come a moment ago
        elif self._stop_at is None:
            log.info(
                "stopping", running=sum(slot.executing for slot in self._slots), limit=self._settings.shutdown_timeout
            )
            self._stop_at = now + self._settings.shutdown_timeout
        else:
            self._stop_at = now
            for slot in self._slots:
                slot.stop("stop", 0)
        self._agenda.ring()

    def _wound_up(self) -> bool:
        """Whether there is nothing left to stop for. An absent database is not waited for longer than it takes."""
        if self._stop_at is None:
            return False
        owing = any(not slot.idle for slot in self._slots)
        return not owing or watchdog.now() > self._stop_at + self._settings.kill_after + GRACE

    async def _serve(self, session: Session) -> None:
        """Works on this session until everything is wound up.

        Raises:
            SessionLost: it is gone; executors that execute go on until their deadlines.
        """
        while True:
            await self._regain(session)
            for slot in [slot for slot in self._slots if slot.outcome and slot.confirmed is not None]:
                if slot.outcome and watchdog.now() >= slot.outcome.not_before:
                    await self._record(session, slot)
            self._overdue()
            try:
                await self._claim_where_woken(session)
                if watchdog.now() >= self._agenda.look_at:
                    await self._look(session)
                    await self._fill(session)
                if watchdog.now() >= self._chores_at:
                    await self._do_chores(session)
            except psycopg.ProgrammingError:
                raise
            except psycopg.Error as error:
                log.error("the database refuses", sqlstate=error.sqlstate, error=str(error).strip())
                self._agenda.look_at = watchdog.now() + self._settings.poll
            await self._words.store(session, self._slots)
            if self._stop_at is not None:
                for slot in [slot for slot in self._slots if slot.idle]:
                    await self._release(session, slot)
                if self._wound_up():
                    await db.deregister(session)
                    return
            if self._slots and watchdog.now() >= session.sent + self._ping_every():
                await session.ping()
            self._extend(session)
            if self._activation:
                self._activation.report(bool(self._slots))
            if self._metrics:
                self._tally.slots_held = len(self._slots)
                self._tally.slots_busy = sum(slot.executing for slot in self._slots)
            if self._waking is None:  # not before the first look: a successor's first claim is not to wait for it
                listening = listen(self._settings.database_url, self._name, self._heard, lambda: self._pace)
                self._waking = asyncio.create_task(listening, name="wake")
            await self._agenda.wait(self._times(session))

    def _times(self, session: Session) -> list[float]:
        """When there is something to do next, if nothing rings before."""
        times = [self._chores_at, *self._words.times(self._slots)]
        if self._slots:
            times.append(session.sent + self._ping_every())
        if self._stop_at is not None and not self._stop_said:
            times.append(self._stop_at)
        for slot in self._slots:
            if slot.confirmed is None:
                times.append(watchdog.now() + REGAIN_EVERY)
            elif slot.outcome:
                times.append(slot.outcome.not_before)
            elif slot.idle and slot.claim_from > 0:
                times.append(slot.claim_from)
            if slot.executing and slot.kill_at is not None:
                times.append(slot.kill_at)
            if slot.executing and slot.timeout_at is not None and slot.reason is None:
                times.append(slot.timeout_at)
        return times

    def _overdue(self) -> None:
        """Stops what has had its time: attempts over a limit, asked handlers that kept going, all when a stop's is."""
        now = watchdog.now()
        if self._stop_at is not None and now >= self._stop_at and not self._stop_said:
            self._stop_said = True
            for slot in self._slots:
                slot.stop("stop", self._settings.kill_after)
        for slot in [slot for slot in self._slots if slot.executing]:
            if slot.timeout_at is not None and now >= slot.timeout_at and slot.reason is None:
                slot.stop("timeout", self._settings.kill_after)
            if slot.executor and slot.reason is None and self._executors.too_large(slot.executor):
                slot.stop("memory", 0)
            if slot.executor and slot.kill_at is not None and now >= slot.kill_at:
                log.warning("executor killed", reason=slot.reason, executor=slot.executor.pid, **slot.tag)
                slot.executor.kill()
                slot.kill_at = now + 10  # said again for as long as it does not die; its slot stays taken

    def _heard(self, text: str) -> None:
        """A notification: says where to look, and is never believed."""
        subject, _, name = text.partition(" ")
        match subject:
            case "queue":
                self._agenda.wake(name)
            case "later":
                if any(slot.idle and slot.queue_name == name for slot in self._slots):
                    self._agenda.look()
            case "cancel":
                if any(slot.task and str(slot.task.task) == name for slot in self._slots):
                    self._agenda.look()
            case _:
                self._agenda.look()

    # -- the session --------------------------------------------------------------------------------------------------

    async def _connect(self) -> Session | None:
        """A new registered session, whose ghost is ended if there was one before. None when it is time to stop."""
        session = await self._open()
        if session is None:
            return None
        self._session = session
        await self._check_schema(session)
        for pid, backend_start in self._ghosts:
            if await db.end_backend(session, pid, backend_start):
                log.info("own ghost ended", backend_pid=pid)
        self._ghosts.clear()
        settings = self._settings
        session.number = await db.register(session, self._name, settings.concurrency, settings.queues, self._kinds)
        await self._see_queues(session)
        now = watchdog.now()
        if self._connected_before:
            # Whoever else lost his session may still execute for a grace, and so may a task of ours whose claim a
            # failover has forgotten: only slots whose tasks are confirmed go on at once.
            self._start_after = now + max((queue.grace for queue in self._queues.values()), default=GRACE)
            for slot in self._slots:
                slot.regain_until = max(slot.until, now + 1.0)
        self._connected_before = True
        self._neighbours.forget()
        self._agenda.look()
        self._tally.connected = True
        log.info("connected", session=session.number, backend_pid=session.pid)
        return session

    async def _open(self) -> Session | None:
        """Tries until it succeeds; None when it is time to stop."""
        pause = REGAIN_EVERY
        said: dict[str, float] = {}
        while not self._wound_up():
            try:
                return await Session.open(self._settings.database_url, self._name, self._smallest_grace())
            except SessionLost as lost:
                # Tried ten times a second while an executor may live on it, and errors alternate: not worth as many
                # lines.
                now, error = watchdog.now(), str(lost)
                if error not in said or now > said[error] + 5:
                    log.warning("database unreachable", error=error)
                    said[error] = now
            self._overdue()
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - jitter
            urgent = any(slot.executing for slot in self._slots)
            pause = REGAIN_EVERY if urgent else min(pause * 2, 1.0)
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
        self._tally.connected = False
        self._tally.sessions_lost += 1
        log.warning("session lost", error=why, session=session.number, executing=sum(s.executing for s in self._slots))
        session.hang_up()
        if session.backend_start:
            self._ghosts.append((session.pid, session.backend_start))
        for slot in self._slots:
            slot.confirmed = None

    async def _regain(self, session: Session) -> None:
        """Takes back the slots of the lost session, and finds out what became of their tasks."""
        lost = [slot for slot in self._slots if slot.confirmed is None]
        for slot in sorted(lost, key=lambda slot: not slot.executing):
            if await db.retake_slot(session, slot.queue, slot.number):
                await self._reconfirm(session, slot)
            elif watchdog.now() > slot.regain_until:
                if slot.executing and slot.executor:
                    slot.executor.kill()
                elif slot.outcome:
                    await self._record(session, slot)
                else:
                    log.info("slot lost", **slot.tag)
                    self._drop(slot)

    async def _reconfirm(self, session: Session, slot: Slot) -> None:
        row = await db.reconfirm(session, slot.queue, slot.number, self._name)
        # Only what is sent after that commit proves anything: an adopter that saw the old mark has given up by now.
        slot.confirmed = watchdog.now()
        if row and slot.task and row.lease == slot.task.lease:
            log.info("slot kept", **slot.tag)
            # Its executor is told at once: what comes next may wait for a standby, as commits do.
            await session.ping()
            self._extend(session)
            if row.cancel_requested:
                self._cancel(slot, row.cancel_requested)
        elif slot.executing and slot.executor:
            log.warning("slot lost", **slot.tag)
            slot.claim_from = self._start_after
            slot.executor.kill()
        elif row:
            # The answer to a claim, or to a finish and claim, was lost; so what we finished then is recorded.
            slot.clear()
            await db.settle(session)
            await self._start(session, slot, row)
        else:
            slot.claim_from = self._start_after

    def _extend(self, session: Session) -> None:
        """Passes the newest answered statement on to the executors as a deadline."""
        for slot in self._slots:
            if slot.executing and slot.task and slot.confirmed is not None and session.sent >= slot.confirmed:
                grace = slot.task.grace
                until = session.sent + grace - watchdog.margin(grace)
                if until - slot.until >= grace / 20:
                    slot.extend(until)

    def _ping_every(self) -> float:
        return min((slot.task.grace for slot in self._slots if slot.task), default=self._smallest_grace()) / 10

    def _smallest_grace(self) -> float:
        return min((queue.grace for queue in self._queues.values()), default=GRACE)

    # -- tasks --------------------------------------------------------------------------------------------------------

    async def _start(self, session: Session, slot: Slot, task: Claimed) -> None:
        if await self._dispatch(session, slot, task):
            log.info("taken", **slot.tag)

    async def _dispatch(self, session: Session, slot: Slot, task: Claimed) -> bool:
        """Gives a claimed task to the slot's executor, if by the clock the slot is certainly ours at this moment.

        Whether the executor has it; without a hand it is given back.
        """
        grace = task.grace
        while (until := session.sent + grace - watchdog.margin(grace)) <= watchdog.now() or (
            slot.confirmed is not None and session.sent < slot.confirmed
        ):
            await session.ping()
        if slot.executor is None or not slot.executor.alive:
            await db.give_back(session, task, self._name)
            log.warning("given back", reason="no executor", task=task.task, lease=task.lease, **slot.tag)
            return False
        slot.start(slot.executor, task, until)
        self._tally.claims += 1
        if task.cancel_requested:
            self._cancel(slot, task.cancel_requested)
        return True

    async def _record(self, session: Session, slot: Slot) -> None:
        """Records the outcome of a slot's task, and claims the next where that is one statement."""
        task, outcome = slot.task, slot.outcome
        if task is None or outcome is None:
            return
        ended, claimed, status = outcome.ended, None, "succeeded"
        seconds, result = outcome.seconds, bytes(ended.result)
        try:
            await self._words.store_progress(session, slot)
            if ended.outcome == "returned" and self._may_claim(slot):
                claimed = await db.finish_and_claim(session, task, self._name, seconds, result, slot.queue, slot.number)
            elif ended.outcome == "returned":
                await db.finish(session, task, self._name, seconds, result)
            elif slot.reason == "stop":
                status = await db.give_back(session, task, self._name)
            else:
                discard = ended.outcome == "discard"
                status = await db.fail(session, task, self._name, seconds, ended.error, ended.retry_after, discard)
        except psycopg.Error as error:
            self._refused(slot, task, outcome, error)
            return
        self._tally.attempts[status] += 1
        event = {"succeeded": "finished", "cancelled": "cancelled"}.get(status, "failed")
        if slot.reason == "stop" and event == "failed":
            event = "given back"
        said = {"error": f"{ended.error.type}: {ended.error.message}"[:500]} if ended.error else {}
        tag = slot.tag
        slot.clear()
        begun = False
        try:
            # First of all: the executor works while we write.
            begun = claimed is not None and await self._dispatch(session, slot, claimed)
        finally:
            log.info(event, status=status, seconds=round(seconds, 3), **said, **tag)
        if begun:
            log.info("taken", **slot.tag)
        elif claimed is None:
            self._settle(slot)

    def _refused(self, slot: Slot, task: Claimed, outcome: Outcome, error: psycopg.Error) -> None:
        """The database lives and did not take an outcome: somebody else's by now, unfit to be stored, or not now."""
        sqlstate = error.sqlstate or ""
        if sqlstate == "LG002":
            log.warning("lease lost", seconds=round(outcome.seconds, 3), **slot.tag)
            slot.clear()
            self._settle(slot)
        elif sqlstate == "LG004":
            slot.confirmed, slot.regain_until = None, watchdog.now() + 1.0
        elif sqlstate[:2] in ("22", "23") or isinstance(error, psycopg.DataError):
            unfit = Error("ResultNotStorable", f"the result cannot be stored: {error.diag.message_primary or error}")
            slot.outcome = Outcome(Ended(task.lease, "raised", error=unfit), outcome.seconds)
        else:
            outcome.tries += 1
            outcome.not_before = watchdog.now() + min(0.1 * 2**outcome.tries, 5.0)
            log.error("outcome not recorded", sqlstate=sqlstate, error=str(error).strip(), **slot.tag)

    def _settle(self, slot: Slot) -> None:
        """After a task without a next one: a slot in doubt goes, a dead or worn executor is replaced."""
        if slot.confirmed is None:
            self._drop(slot)
            return
        self._executors.give(slot)
        if slot.yielding or self._draining:
            self._agenda.look()
        else:
            self._agenda.wake(slot.queue_name)

    def _cancel(self, slot: Slot, mode: str) -> None:
        if slot.executing and (slot.reason is None or mode == "force"):
            log.info("cancel asked", mode=mode, **slot.tag)
            slot.stop("cancel", 0 if mode == "force" else self._settings.kill_after)
            self._overdue()

    # -- looking and claiming -----------------------------------------------------------------------------------------

    def _may_claim(self, slot: Slot) -> bool:
        """Whether a new task may start in this slot, once its present one is recorded."""
        queue = self._queues.get(slot.queue)
        return (
            self._stop_at is None
            and not self._draining
            and slot.confirmed is not None
            and not slot.yielding
            and slot.executor is not None
            and slot.executor.alive
            and not self._executors.worn(slot.executor)
            and watchdog.now() >= slot.claim_from
            and queue is not None
            and slot.number <= queue.slots
            # A database that cannot write down an end should not be asked for a beginning.
            and not any(other.outcome and other.outcome.tries for other in self._slots)
        )

    async def _claim_where_woken(self, session: Session) -> None:
        """The quick way: a claim for each idle slot of a queue that has, or may have, something due."""
        for slot in self._slots:
            if slot.idle and 0 < slot.claim_from <= watchdog.now():
                slot.claim_from = 0.0
                self._agenda.wake(slot.queue_name)
        for name in self._agenda.woken():
            ready = [slot for slot in self._slots if slot.idle and slot.queue_name == name and self._may_claim(slot)]
            for slot in ready:
                task = await db.claim(session, slot.queue, slot.number, self._name)
                if task is None:
                    break
                await self._start(session, slot, task)
            if not ready and any(slot.idle and slot.queue_name != name for slot in self._slots):
                self._agenda.look()  # an idle slot elsewhere may be worth changing for one here

    async def _see_queues(self, session: Session) -> None:
        self._queues = {queue.queue: queue for queue in await db.look(session, self._settings.queues, not self._slots)}
        if self._smallest_grace() != session.grace:
            await session.fit(self._smallest_grace())
        now = watchdog.now()
        mine = {slot.queue_name for slot in self._slots}
        self._agenda.due_at = {
            queue.name: now + queue.next_due
            for queue in self._queues.values()
            if queue.next_due is not None and queue.next_due > 0 and queue.name in mine
        }

    def _see_draining(self) -> None:
        draining = any(queue.draining for queue in self._queues.values())
        if draining != self._draining:
            self._draining = self._tally.draining = draining
            if draining:
                log.info("draining", running=sum(slot.executing for slot in self._slots))
            else:
                log.info("resumed")

    async def _look(self, session: Session) -> None:
        """Looks at the queues and at all occupied slots: cancels of ours, and what there is to do about others'."""
        self._agenda.look_at = watchdog.now() + self._settings.poll * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        await self._see_queues(session)
        self._see_draining()
        rows = await db.watch(session)
        received = watchdog.now()
        ours = {(slot.queue, slot.number): slot for slot in self._slots}
        for row in rows:
            slot = ours.get((row.queue, row.slot))
            if slot and slot.task and row.cancel_requested and row.lease == slot.task.lease:
                self._cancel(slot, row.cancel_requested)
        taken = dict.fromkeys(self._queues, 0)
        for row in rows:
            if row.queue in taken and row.slot <= self._queues[row.queue].slots:
                taken[row.queue] += 1
        self._free = {queue: self._queues[queue].slots - count for queue, count in taken.items()}
        adopted, next_at = await self._neighbours.look_after(session, rows, received, ours)
        self._tally.adoptions += len(adopted)
        for orphan in adopted:
            if orphan.queue in taken and orphan.slot <= self._queues[orphan.queue].slots:
                self._free[orphan.queue] += (
                    1  # or a standby would let its only executor go, a moment before it needs it
                )
        self._pace = self._standby_pace()
        self._agenda.look_at = received + (self._agenda.look_at - received) * self._pace
        self._agenda.look_at = min(self._agenda.look_at, next_at)

    def _standby_pace(self) -> float:
        if self._slots or any(self._free.get(number, 0) > 0 for number in self._queues):
            return 1.0
        standing_by = max((queue.standing_by or 0 for queue in self._queues.values()), default=0)
        return max(1.0, min(standing_by / LOOKS_PER_POLL, LOOK_MOST / self._settings.poll))

    async def _do_chores(self, session: Session) -> None:
        """Says once what payloads its kinds take. If no other runner has the chores, counts what has ended, and removes
        it when its time is over."""
        self._chores_at = watchdog.now() + CHORES_EVERY * self._pace * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        if self._announced != session.number:
            await self._announce(session)
        counted = await db.roll_up(session, ROLL_UP_BATCH)
        if counted is None:
            return
        removed = await db.tidy(session)
        if removed:
            log.debug("removed", tasks=removed)
        if removed or counted >= ROLL_UP_BATCH:
            self._chores_at = watchdog.now() + 0.05

    async def _announce(self, session: Session) -> None:
        self._announced = session.number
        told: dict[str, msgspec.Raw] = {}
        for kind, schema in self._schemas.items():
            if sum(map(len, map(bytes, told.values()))) + len(bytes(schema)) <= SCHEMAS_LIMIT:
                told[kind] = schema
        try:
            await db.announce_schemas(session, told)
        except psycopg.Error as error:
            log.warning("schemas not announced", error=str(error).strip())

    # -- slots --------------------------------------------------------------------------------------------------------

    async def _fill(self, session: Session) -> None:
        """Takes slots while there is room, moves idle ones to where the work is, claims; lets go what is of no use."""
        if self._stop_at is not None:
            return
        for slot in [slot for slot in self._slots if slot.idle and slot.confirmed is not None]:
            queue = self._queues.get(slot.queue)
            handless = slot.executor is None and not self._executors.starting(slot)
            if queue is None or slot.number > queue.slots or handless or self._draining:
                await self._release(session, slot)
        wanted = [queue for queue in self._queues.values() if not queue.paused and not self._draining]
        random.shuffle(wanted)
        wanted.sort(key=lambda queue: not queue.due)
        for queue in wanted:
            while self._has_room() and self._free.get(queue.queue, 0) > 0:
                if not await self._take(session, queue):
                    break
        for queue in wanted:
            if queue.due and not self._has_room() and self._free.get(queue.queue, 0) > 0:
                await self._change_to(session, queue)
            if queue.due:
                self._agenda.wake(queue.name)
        for slot in self._slots:
            if slot.idle:
                slot.yielding = False  # nothing came of it: the work elsewhere is done or somebody else's
        await self._claim_where_woken(session)
        if self._agenda.look_at > watchdog.now() + self._settings.poll / 2:  # else a slot may be about to come
            await self._executors.keep(1 if self._keep_executor and not self._slots else 0)

    def _has_room(self) -> bool:
        return (
            not self._draining
            and len(self._slots) < self._settings.concurrency
            and watchdog.now() >= self._executors.blocked_until
        )

    async def _take(self, session: Session, queue: db.Queue) -> bool:
        number = await db.take_slot(session, queue.queue)
        if number is None:
            self._free[queue.queue] = 0
            return False
        self._free[queue.queue] -= 1
        claim_from = self._start_after if self._start_after > watchdog.now() else 0.0
        slot = Slot(queue.queue, queue.name, number, confirmed=watchdog.now(), claim_from=claim_from)
        self._slots.append(slot)
        log.info("slot taken", **slot.tag)
        self._executors.give(slot)
        return True

    async def _change_to(self, session: Session, queue: db.Queue) -> None:
        """Trades a slot of another queue for one of this queue: an idle one now, else a busy one after its task."""
        if any(slot.queue == queue.queue and slot.idle for slot in self._slots):
            return
        others = [slot for slot in self._slots if slot.queue != queue.queue and slot.confirmed is not None]
        busy = {queue.queue for queue in self._queues.values() if queue.due and not queue.paused}
        idle = next((slot for slot in others if slot.idle and (slot.yielding or slot.queue not in busy)), None)
        if idle:
            await self._release(session, idle)
            await self._take(session, queue)
        elif others and not any(slot.yielding for slot in others):
            min(others, key=lambda slot: slot.started).yielding = True

    async def _release(self, session: Session, slot: Slot) -> None:
        if self._draining:
            await db.pass_slot_on(session, slot.queue, slot.number)
        else:
            await db.release_slot(session, slot.queue, slot.number)
        log.info("slot released", **slot.tag)
        self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        slot.held = False
        self._slots.remove(slot)
        self._executors.take_back(slot)
        self._agenda.look()
