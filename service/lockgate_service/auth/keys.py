"""API keys: their text, the caller that each stands for, and those in force.

A key is `lockgate_`, an id of 12 letters and digits, `_`, and a secret of 43. The secret has 256 random bits, so nobody
finds it from its SHA-256 by trying: a slow hash, made for passwords, would only slow down every request.
"""

import asyncio
import contextlib
import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from lockgate.log import logger
from lockgate_service.http.errors import refusal
from lockgate_service.http.problems import Refusal, unauthenticated
from lockgate_service.pool import Pool, retrieve_error

ID_LENGTH = 12
SECRET_LENGTH = 43  # of 62 letters and digits: 256 bits
COOKIE = "lockgate_key"
KEEP_SECONDS = 2.0  # after that a revoked key is refused
NOTE_SECONDS = 60.0
CLOSE_LIMIT = 1.0

_LOWER = string.ascii_lowercase + string.digits
_ALL = string.ascii_letters + string.digits
_KEY = re.compile(rf"lockgate_([a-z0-9]{{{ID_LENGTH}}})_[A-Za-z0-9]{{{SECRET_LENGTH}}}")
_BEARER = re.compile("bearer +([^ ]+) *", re.IGNORECASE)

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")  # each includes those before it


class Caller(Struct, frozen=True):
    """The owner of a key; or anybody, where no key is needed.

    `owner` is the scope of its idempotency keys. A caller with a `queue` may see and touch only what is in that queue.
    The guard enforces this for paths with a task id or queue name; handlers with other queue parameters call `queue_of`
    or `sees`.
    """

    scope: Scope = "admin"
    owner: str = ""
    queue: str | None = None
    key: str | None = None

    def may(self, scope: Scope) -> bool:
        return SCOPES.index(self.scope) >= SCOPES.index(scope)

    def sees(self, queue: str) -> bool:
        return self.queue is None or self.queue == queue

    def queue_of(self, named: str | None) -> str | None:
        """The queue of a request that names this queue, or none. Raises Refusal (403) if it is not the caller's."""
        if self.queue is None or named == self.queue:
            return named
        if named is None:
            return self.queue
        raise Refusal(403, f'this key is good for queue "{self.queue}" only')


ANYBODY = Caller()


class Shown(Struct, frozen=True):
    """The id and the digest of a key that somebody sent."""

    id: str
    digest: bytes


def make() -> tuple[Shown, str]:
    """Makes a key. Nobody but its user keeps the text."""
    name = "".join(secrets.choice(_LOWER) for _ in range(ID_LENGTH))
    text = f"lockgate_{name}_{''.join(secrets.choice(_ALL) for _ in range(SECRET_LENGTH))}"
    return Shown(name, hashlib.sha256(text.encode()).digest()), text


def in_cookie(header: str | None) -> str | None:
    """The value of our cookie. Of several, the first is that of the longest path, so ours."""
    for one in (header or "").split(";"):
        name, _, value = one.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def shown(text: str) -> Shown | None:
    """None if the text has not the form of a key."""
    found = _KEY.fullmatch(text)
    return Shown(found[1], hashlib.sha256(text.encode()).digest()) if found else None


class Known(Struct, frozen=True):
    """A key in force: the digest of its text, and its caller."""

    digest: bytes
    caller: Caller


class Snapshot(Struct, frozen=True):
    """All keys in force, by id, as of a time of time.monotonic(); and whether a key was ever made."""

    time: float
    any: bool
    known: Mapping[str, Known]


async def read(pool: Pool) -> Snapshot:
    """Raises psycopg.Error and Refusal (503)."""
    now = time.monotonic()
    rows = await pool.rows(
        """
        select e.has_keys, k.digest, k.scope::text, k.owner, k.queue, k.id
        from (select lockgate.has_keys()) e left join lockgate.keys_in_force() k on e.has_keys
        """
    )
    known = {rest[-1]: Known(digest, Caller(*rest)) for _, digest, *rest in rows if digest is not None}
    return Snapshot(now, rows[0][0], known)


class Keys:
    """Tells callers by their keys. Reads all keys together, one statement at a time however many requests come, so that
    guessing costs the database little.

    `required`: whether a request without a key is refused; None: only if a key was ever made.
    """

    def __init__(self, pool: Pool, required: bool | None) -> None:
        self._pool = pool
        self._required = required
        self._snapshot = Snapshot(float("-inf"), False, {})
        self._reading: asyncio.Task[None] | None = None
        self._used: set[str] = set()

    async def caller(self, authorization: str | None = None, cookie: str | None = None) -> Caller:
        """The caller with the key in this header, or else in this cookie. Raises Refusal (401), and 503 if the database
        cannot be asked."""
        if self._required is False:
            return ANYBODY
        now = time.monotonic()
        snapshot = await self._read(now - KEEP_SECONDS)
        if not snapshot.any and not self._required:
            return ANYBODY
        if authorization is not None:
            bearer = _BEARER.fullmatch(authorization)
            cookie = bearer[1] if bearer else ""
        if cookie is None:
            raise unauthenticated("a key is needed, as in `Authorization: Bearer lockgate_...`")
        if (key := shown(cookie)) is None:
            form = "the key is not of the form `lockgate_...`"
            raise unauthenticated("Authorization is not of the form `Bearer lockgate_...`" if authorization else form)
        # A key that is not known was perhaps made a moment ago.
        known = snapshot.known.get(key.id) or (await self._read(now)).known.get(key.id)
        if known is None or not hmac.compare_digest(known.digest, key.digest):
            raise unauthenticated("there is no such key, or it has been revoked")
        self._used.add(key.id)
        return known.caller

    async def recheck(self, caller: Caller) -> None:
        """For streams, which outlive a check. Raises Refusal (401) once the caller would not be let in again. While the
        database cannot be asked a stream has nothing new to show either, and may go on."""
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
        """Stores now and then which keys were used. Never returns."""
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            try:
                await self._note()
            except Exception as error:  # every one: the next time will do
                logger.warning("use of keys not stored", error=str(error))

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._note()

    async def _read(self, since: float) -> Snapshot:
        """Not older than `since`. Raises what the statement raises, to all who wait for it."""
        while self._snapshot.time < since:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_now())
                self._reading.add_done_callback(retrieve_error)
            await asyncio.shield(self._reading)
        return self._snapshot

    async def _read_now(self) -> None:
        self._snapshot = await read(self._pool)

    async def _note(self) -> None:
        used, self._used = self._used, set()
        if used:
            await self._pool.rows("select lockgate.note_key_use(%s)", (list(used),))
