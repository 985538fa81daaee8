"""Recording outcomes: the end of a task is stored once, whatever the database answers, and the next task claimed."""

import psycopg
import structlog

from lockgate_runner import db
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.protocol import End, Error
from lockgate_runner.metrics import Counters
from lockgate_runner.reports import Reports
from lockgate_runner.session import Session
from lockgate_runner.slot import Outcome, Slot
from lockgate_runner.slots import Slots

RETRY_MOST = 5.0
"""Seconds between two tries to record an outcome that the database refuses, at the most."""

log = structlog.get_logger()


class Outcomes:
    """Records how the tasks of a runner have ended."""

    def __init__(self, name: str, slots: Slots, reports: Reports, counters: Counters) -> None:
        self._name = name
        self._slots = slots
        self._reports = reports
        self._counters = counters

    async def record(self, session: Session) -> None:
        """Records every outcome that is due; one in a slot that could not be regained too, since it may be refused."""
        for slot in list(self._slots.all):
            outcome, now = slot.outcome, watchdog.now()
            if outcome and now >= outcome.not_before and (slot.confirmed is not None or now > slot.regain_until):
                await self._record(session, slot, outcome)

    async def _record(self, session: Session, slot: Slot, outcome: Outcome) -> None:
        """Records one outcome, and claims the next task where that is one statement."""
        task = slot.task
        if task is None:
            return
        end, seconds, claimed, status = outcome.end, outcome.seconds, None, "succeeded"
        try:
            await self._reports.store_progress(session, slot)
            if end.outcome == "returned" and self._slots.may_claim(slot):
                result = bytes(end.result)
                claimed = await db.finish_and_claim(session, task, self._name, seconds, result, slot.queue, slot.number)
            elif end.outcome == "returned":
                await db.finish(session, task, self._name, seconds, bytes(end.result))
            elif slot.reason == "stop":
                status = await db.return_task(session, task, self._name)
            else:
                discard = end.outcome == "discard"
                status = await db.fail(session, task, self._name, seconds, end.error, end.retry_after, discard)
        except psycopg.Error as error:
            self._refused(slot, task, outcome, error)
            return
        self._counters.attempts[status] += 1
        event = {"succeeded": "finished", "cancelled": "cancelled"}.get(status, "failed")
        if slot.reason == "stop" and event == "failed":
            event = "returned"
        error_text = {"error": f"{end.error.type}: {end.error.message}"[:500]} if end.error else {}
        tag = slot.tag
        slot.clear()
        started = False
        try:
            # First of all: the executor works while we log.
            started = claimed is not None and await self._slots.start(session, slot, claimed)
        finally:
            log.info(event, status=status, seconds=round(seconds, 3), **error_text, **tag)
        if started:
            log.info("taken", **slot.tag)
        elif claimed is None:
            self._slots.settle(slot)

    def _refused(self, slot: Slot, task: db.Claimed, outcome: Outcome, error: psycopg.Error) -> None:
        """Judges a refusal: the task is another runner's by now, its result is unfit to be stored, or not now."""
        sqlstate = error.sqlstate or ""
        if sqlstate == "LG002":
            log.warning("lease lost", seconds=round(outcome.seconds, 3), **slot.tag)
            slot.clear()
            self._slots.settle(slot)
        elif sqlstate == "LG004":
            slot.confirmed, slot.regain_until = None, watchdog.now() + 1.0
        elif sqlstate[:2] in ("22", "23") or isinstance(error, psycopg.DataError):
            unfit = Error("ResultNotStorable", f"the result cannot be stored: {error.diag.message_primary or error}")
            slot.outcome = Outcome(End(task.lease, "raised", error=unfit), outcome.seconds)
        else:
            outcome.refusals += 1
            outcome.not_before = watchdog.now() + min(0.1 * 2**outcome.refusals, RETRY_MOST)
            log.error("outcome not recorded", sqlstate=sqlstate, error=str(error).strip(), **slot.tag)
