"""Single flight: concurrent callers share one read and its result or error."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from lockgate_service.pool import retrieve_error

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Reads once for all concurrent callers, and keeps the result for a moment: for longer where reading takes long."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float, share: float = 0.1) -> None:
        """`seconds`: how old a result may be; `share`: of the time that may go into reading."""
        self._read = read
        self._seconds = seconds
        self._share = share
        self._reading: asyncio.Task[T] | None = None
        self._good_until = float("-inf")

    async def get(self) -> T:
        """Raises what `read` raises."""
        if self._reading is None or (self._reading.done() and time.monotonic() >= self._good_until):
            self._good_until = float("-inf")
            self._reading = asyncio.create_task(self._read_once())
            self._reading.add_done_callback(retrieve_error)
        return await asyncio.shield(self._reading)  # which others wait for too

    async def _read_once(self) -> T:
        begin = time.monotonic()
        value = await self._read()
        self._good_until = begin + max(self._seconds, (time.monotonic() - begin) / self._share)
        return value


class SingleFlightByKey(Generic[T]):
    """One for each key, of the keys that were asked for last. A key is the arguments of `read`."""

    def __init__(self, read: Callable[..., Awaitable[T]], seconds: Callable[..., float], most: int = 100) -> None:
        """`seconds`: how old the result for that key may be; `most`: how many keys are kept."""
        self._read = read
        self._seconds = seconds
        self._most = most
        self._kept: OrderedDict[Hashable, SingleFlight[T]] = OrderedDict()

    async def get(self, *key: Hashable) -> T:
        """Raises what `read` raises."""
        flight = self._kept.setdefault(key, SingleFlight(partial(self._read, *key), self._seconds(*key)))
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return await flight.get()
