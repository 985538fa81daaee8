"""The keys in force, as they were a moment ago: what tells who is asking."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import Mapping

from msgspec import Struct

from lockgate.log import logger
from lockgate_service.auth import db
from lockgate_service.auth.api_key import in_authorization, shown
from lockgate_service.auth.caller import ANYBODY, Caller
from lockgate_service.http.errors import refusal
from lockgate_service.http.problems import unauthenticated
from lockgate_service.pool import Pool

# Seconds.
KEEP_SECONDS = 2.0  # and after that a revoked key is good for nothing any more
NOTE_SECONDS = 60.0
CLOSE_LIMIT = 1.0


class Known(Struct, frozen=True):
    """A key in force, and what its digest has to be."""

    digest: bytes
    caller: Caller


class Snapshot(Struct, frozen=True):
    """All of them, as of a time of time.monotonic(); and whether there ever were any."""

    time: float
    any: bool
    known: Mapping[str, Known]


class Keys:
    """Reads all keys together, one statement at a time however many ask, so that guessing costs the database little.

    `required`: whether a request without a key is refused; None: only if a key was ever made.
    """

    def __init__(self, pool: Pool, required: bool | None) -> None:
        self._pool = pool
        self._required = required
        self._snapshot = Snapshot(float("-inf"), False, {})
        self._reading: asyncio.Task[None] | None = None
        self._used: set[str] = set()

    async def caller(self, authorization: str | None = None, cookie: str | None = None) -> Caller:
        """Who sent a request with this header, or else with this in the cookie. Raises Refusal (401), and 503 if the
        database cannot be asked."""
        if self._required is False:
            return ANYBODY
        now = time.monotonic()
        snapshot = await self._read(now - KEEP_SECONDS)
        if not snapshot.any and not self._required:
            return ANYBODY
        given = cookie if authorization is None else in_authorization(authorization)
        if given is None:
            raise unauthenticated("a key is needed, as in `Authorization: Bearer lockgate_...`")
        if (key := shown(given)) is None:
            form = "the key is not of the form `lockgate_...`"
            raise unauthenticated("Authorization is not of the form `Bearer lockgate_...`" if authorization else form)
        known = snapshot.known.get(key.id)
        if known is None:
            # Made a moment ago, perhaps.
            known = (await self._read(now)).known.get(key.id)
        if known is None or not hmac.compare_digest(known.digest, key.digest):
            raise unauthenticated("there is no such key, or it has been revoked")
        self._used.add(key.id)
        return known.caller

    async def recheck(self, caller: Caller) -> None:
        """For what goes on for longer than a request. Raises Refusal (401) once the caller would not be let in again.
        While the database cannot be asked there is nothing new to see either, and this lets it go on."""
        if self._required is False:
            return
        try:
            snapshot = await self._read(time.monotonic() - KEEP_SECONDS)
        except Exception as error:
            if refusal(error) is None:
                raise
            return
        if caller.key not in snapshot.known and (snapshot.any or self._required):
            raise unauthenticated("the key has been revoked")

    async def run(self) -> None:
        """Writes down now and then which keys were used. Never returns."""
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            try:
                await self._note()
            except Exception as error:  # every one: it can be written down later as well
                logger.warning("the use of keys was not noted", error=str(error))

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._note()

    async def _read(self, since: float) -> Snapshot:
        """Not older than that. Raises what the statement raises, to all who wait for it."""
        while self._snapshot.time < since:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_now())
                self._reading.add_done_callback(_seen)
            await asyncio.shield(self._reading)
        return self._snapshot

    async def _read_now(self) -> None:
        now = time.monotonic()
        found, known = await db.in_force(self._pool)
        by_id = {caller.key: Known(digest, caller) for digest, caller in known if caller.key}
        self._snapshot = Snapshot(now, found, by_id)

    async def _note(self) -> None:
        used, self._used = self._used, set()
        if used:
            await db.note_use(self._pool, used)


def _seen(reading: asyncio.Task[None]) -> None:
    """Those who waited have been told, or do not wait any more."""
    if not reading.cancelled():
        reading.exception()
