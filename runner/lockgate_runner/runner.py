"""The runner: holds slots, has their tasks executed, and stops what executes in a slot before it may be another's.

One coroutine sends all statements of the slot session, one after another: connect, take back what was ours, then round
and round: record ends, claim, poll when it is due, ping, extend the executors' deadlines, wait. What happens beside it
(an executor answers or dies, a notification comes) is noted in the wakeups, and taken up in the next round.

A runner stops twice, first *claiming* and then *working*: see `Runner.stop`.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime

import psycopg
import structlog

from lockgate.backoff import Backoff
from lockgate_runner import db
from lockgate_runner.activation import Activation, GoAhead
from lockgate_runner.adoption import Adoption
from lockgate_runner.chores import Chores
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.output import Printed
from lockgate_runner.executor.pool import ExecutorPool
from lockgate_runner.executor.process import Died, Ended, Executor, NotStarted, Progressed, Started
from lockgate_runner.metrics import Counters
from lockgate_runner.outcomes import Outcomes
from lockgate_runner.reports import Reports
from lockgate_runner.session import SchemaTooOld, Session, SessionLost
from lockgate_runner.settings import Settings
from lockgate_runner.slot import Slot
from lockgate_runner.slots import GRACE, REGAIN_EVERY, Slots
from lockgate_runner.wakeups import Wakeups, listen

SCHEMA = 1
"""The version of the schema this program is written for."""

REFUSED_FOR = 0.5
"""Seconds to wait after the database lives but refuses what a runner cannot do without."""

log = structlog.get_logger()


class Runner:
    """One runner process. Times are on the clock of deadlines."""

    def __init__(self, settings: Settings, name: str, activation: Activation | None = None) -> None:
        self._settings = settings
        self._name = name
        self._activation = activation
        """None for a runner without a supervisor."""
        self._keep_executor = False
        """Whether to keep one executor also without a slot."""
        self._kinds: Sequence[str] = ()
        self._wakeups = Wakeups()
        self._counters = Counters()
        self._reports = Reports(name)
        self._pool: ExecutorPool[Slot] = ExecutorPool(
            self._wakeups.answer,
            recycle_tasks=settings.recycle_tasks,
            recycle_memory=settings.recycle_memory,
            memory_limit=settings.memory_limit,
        )
        self._slots = Slots(settings, name, self._pool, self._wakeups, self._counters)
        self._outcomes = Outcomes(name, self._slots, self._reports, self._counters)
        self._adoption = Adoption()
        self._chores = Chores()
        self._pace = 1.0
        """How many times as long as others it waits between two polls."""
        self._session: Session | None = None
        self._listening: asyncio.Task[None] | None = None
        self._ghosts: list[tuple[int, datetime]] = []
        self._connected_before = False

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until it was stopped and has returned everything.

        Raises:
            HandlersNotLoaded: at the start; the text says why.
            NotDirect: DATABASE_URL leads to a pooler.
            SchemaTooOld: the database needs `lockgate migrate`.
            psycopg.ProgrammingError: the database has no Lockgate schema, the login may not use it, or DATABASE_URL is
                not a connection string.
        """
        executor = await self._pool.first()
        self._kinds, self._chores.schemas = executor.kinds, executor.schemas
        metrics = self._settings.metrics
        if self._activation:
            go_ahead = await self._wait_for_go_ahead(self._activation, executor)
            if go_ahead is None:
                await self._pool.keep(0)
                return
            metrics = go_ahead.metrics or metrics
        if metrics:
            from lockgate.metrics import serve  # 20 ms that others do not wait for

            self._counters.served = True
            serve(metrics, self._counters)
        try:
            while not self._is_finished():
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
            if self._listening:
                self._listening.cancel()
            await self._pool.stop()
            if self._session:
                await self._session.close()

    async def _wait_for_go_ahead(self, activation: Activation, executor: Executor) -> GoAhead | None:
        """Waits, with nothing but an executor, for the supervisor's go-ahead. None: there is nothing to do any more."""
        if self._slots.stop_claiming:
            return None
        if not activation.is_here:
            log.info("spare ready")
        executor.death.add_done_callback(activation.dismiss)
        go_ahead = await activation.go_ahead()
        executor.death.remove_done_callback(activation.dismiss)
        if go_ahead is None:
            self._take_answers()
            return None
        self._keep_executor = go_ahead.keep_executor
        if go_ahead.inherit:
            log.info("takes over", predecessor=go_ahead.inherit[-1])
            self._adoption.inherit(go_ahead.inherit)
        return go_ahead

    def stop(self) -> None:
        """Stops claiming, and stops working when the shutdown timeout is over; called again, at once."""
        slots, now = self._slots, watchdog.now()
        if slots.stop_claiming:
            slots.stop_working_at = now
            for slot in slots.all:
                slot.stop("stop", 0)
        else:
            slots.stop_claiming = True
            slots.stop_working_at = now + self._settings.shutdown_timeout
            if self._activation and self._activation.waiting:
                self._activation.dismiss()
            else:
                log.info("stopping", running=slots.executing, limit=self._settings.shutdown_timeout)
        self._wakeups.ring()

    def _is_finished(self) -> bool:
        """Whether it was stopped and has nothing to record. It does not wait for an absent database for ever."""
        give_up_at = self._slots.stop_working_at + self._settings.kill_after + GRACE
        nothing_left = all(slot.idle for slot in self._slots.all)
        return self._slots.stop_claiming and (nothing_left or watchdog.now() > give_up_at)

    async def _serve(self, session: Session) -> None:
        """Works on this session, round after round, until it is finished.

        Raises:
            SessionLost: it is gone; executors continue until their deadlines.
        """
        slots = self._slots
        while True:
            self._take_answers()
            await slots.regain(session)
            await self._outcomes.record(session)
            slots.stop_overdue()
            await self._claim_and_poll(session)
            await self._reports.store(session, slots.all)
            if slots.stop_claiming:
                for slot in [slot for slot in slots.all if slot.idle]:
                    await slots.release(session, slot)
                if self._is_finished():
                    await db.deregister(session)
                    return
            if slots.all and watchdog.now() >= session.sent + slots.ping_every:
                await session.ping()
            slots.extend(session)
            self._tell()
            if self._listening is None:  # not before the first poll: a successor's first claim is not to wait for it
                listening = listen(self._settings.database_url, self._name, self._notified, lambda: self._pace)
                self._listening = asyncio.create_task(listening, name="listen")
            times = [self._chores.at, *self._reports.times(slots.all), *slots.times()]
            await self._wakeups.wait([*times, session.sent + slots.ping_every] if slots.all else times)

    def _take_answers(self) -> None:
        """Takes up what the executors have answered, in the order in which they did."""
        for answer in self._wakeups.answers():
            match answer:
                case Ended(executor, end, seconds):
                    if slot := self._pool.slot_of(executor):
                        slot.ended(end, seconds)
                case Progressed(executor, progress):
                    slot = self._pool.slot_of(executor)
                    if slot and slot.task and slot.task.lease == progress.lease:
                        slot.progress = bytes(progress.value)
                case Printed():
                    self._reports.printed(answer)
                case Started():
                    if slot := self._pool.started():
                        self._wakeups.wake(slot.queue_name)
                case NotStarted(reason):
                    self._pool.not_started(reason)
                    self._wakeups.poll()
                case Died():
                    self._take_death(answer)

    def _take_death(self, death: Died) -> None:
        executor, slot = death.executor, self._pool.died(death.executor)
        if slot:
            slot.died(death)
        if executor.stopping:
            return
        log.warning("executor died", executor=executor.pid, code=death.code, **(slot.tag if slot else {}))
        if slot is None:
            self._wakeups.poll()
            return
        self._counters.executors_died[{"lost": "deadline", None: "crash"}.get(slot.reason) or str(slot.reason)] += 1
        if slot.idle:
            self._slots.assign_executor(slot)

    def _tell(self) -> None:
        """Tells the supervisor and the metrics about the slots."""
        if self._activation:
            self._activation.report(bool(self._slots.all))
        if self._counters.served:
            self._counters.slots_held = len(self._slots.all)
            self._counters.slots_busy = self._slots.executing

    def _notified(self, text: str) -> None:
        """Takes up a notification: it says where to look, and is never believed."""
        subject, _, name = text.partition(" ")
        match subject:
            case "queue":
                self._wakeups.wake(name)
            case "later":
                if any(slot.idle and slot.queue_name == name for slot in self._slots.all):
                    self._wakeups.poll()
            case "cancel":
                if any(slot.task and str(slot.task.task) == name for slot in self._slots.all):
                    self._wakeups.poll()
            case _:
                self._wakeups.poll()

    # -- the session --------------------------------------------------------------------------------------------------

    async def _connect(self) -> Session | None:
        """Opens and registers a session, and ends the ghost of the last one. None when it is time to stop."""
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
        await self._poll_queues(session)
        now = watchdog.now()
        if self._connected_before:
            # Other runners that lost their session may still execute for a grace, and so may a task of ours whose claim
            # a failover has forgotten: only slots whose tasks are confirmed go on at once.
            queues = self._slots.queues.values()
            self._slots.start_after = now + max((queue.grace for queue in queues), default=GRACE)
            for slot in self._slots.all:
                slot.regain_until = max(slot.until, now + 1.0)
        self._connected_before = True
        self._adoption.forget()
        self._wakeups.poll()
        self._counters.connected = True
        log.info("connected", session=session.number, backend_pid=session.pid)
        return session

    async def _open(self) -> Session | None:
        """Tries until it succeeds; None when it is time to stop."""
        backoff = Backoff(REGAIN_EVERY, 1.0, jitter=0.3)
        logged: dict[str, float] = {}
        while not self._is_finished():
            try:
                return await Session.open(self._settings.database_url, self._name, self._slots.smallest_grace)
            except SessionLost as lost:
                # It tries ten times a second while an executor may live on it, and errors alternate: too many lines.
                now, error = watchdog.now(), str(lost)
                if error not in logged or now > logged[error] + 5:
                    log.warning("database unreachable", error=error)
                    logged[error] = now
            await asyncio.sleep(backoff.next())
            self._take_answers()
            self._slots.stop_overdue()
            if self._slots.executing:
                backoff.reset()
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
        self._counters.connected = False
        self._counters.sessions_lost += 1
        log.warning("session lost", error=why, session=session.number, executing=self._slots.executing)
        session.hang_up()
        if session.backend_start:
            self._ghosts.append((session.pid, session.backend_start))
        for slot in self._slots.all:
            slot.confirmed = None

    # -- polls and chores ---------------------------------------------------------------------------------------------

    async def _claim_and_poll(self, session: Session) -> None:
        """Claims where it was woken; polls and does chores when due. After a refusal it waits for the next poll."""
        try:
            await self._slots.claim(session)
            if watchdog.now() >= self._wakeups.poll_at:
                await self._poll(session)
                await self._fill(session)
            if watchdog.now() >= self._chores.at:
                await self._chores.do(session, self._pace)
        except psycopg.ProgrammingError:
            raise
        except psycopg.Error as error:
            log.error("the database refuses", sqlstate=error.sqlstate, error=str(error).strip())
            self._wakeups.poll_at = watchdog.now() + self._settings.poll

    async def _poll(self, session: Session) -> None:
        """Polls the queues and all occupied slots: cancels of our tasks, and what there is to do about others'."""
        slots = self._slots
        self._wakeups.poll_at = watchdog.now() + self._settings.poll * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        await self._poll_queues(session)
        self._see_draining()
        rows = await db.slot_activity(session)
        received = watchdog.now()
        ours = {(slot.queue, slot.number): slot for slot in slots.all}
        for row in rows:
            slot = ours.get((row.queue, row.slot))
            if slot and slot.task and row.cancel_requested and row.lease == slot.task.lease:
                slot.cancel(row.cancel_requested, self._settings.kill_after)
        slots.stop_overdue()
        adopted, next_at = await self._adoption.look_after(session, rows, received, ours)
        self._counters.adoptions += len(adopted)
        # Free from now on too, or a standby would let its only executor go a moment before it needs it.
        slots.count_free(row for row in rows if row not in adopted)
        self._pace = slots.standby_pace()
        self._wakeups.poll_at = min(received + (self._wakeups.poll_at - received) * self._pace, next_at)

    async def _poll_queues(self, session: Session) -> None:
        slots = self._slots
        queues = await db.poll_queues(session, self._settings.queues, count_standbys=not slots.all)
        slots.queues = {queue.queue: queue for queue in queues}
        if slots.smallest_grace != session.grace:
            await session.fit(slots.smallest_grace)
        now = watchdog.now()
        mine = {slot.queue_name for slot in slots.all}
        self._wakeups.due_at = {
            queue.name: now + queue.next_due
            for queue in queues
            if queue.next_due is not None and queue.next_due > 0 and queue.name in mine
        }

    def _see_draining(self) -> None:
        slots = self._slots
        draining = any(queue.draining for queue in slots.queues.values())
        if draining != slots.draining:
            slots.draining = self._counters.draining = draining
            log.info("draining", running=slots.executing) if draining else log.info("resumed")

    async def _fill(self, session: Session) -> None:
        """Takes and releases slots, claims for them, and keeps an executor for a slot that may come."""
        if self._slots.stop_claiming:
            return
        await self._slots.fill(session)
        await self._slots.claim(session)
        if self._wakeups.poll_at > watchdog.now() + self._settings.poll / 2:  # else a slot may be about to come
            await self._pool.keep(1 if self._keep_executor and not self._slots.all else 0)
