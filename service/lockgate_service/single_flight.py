"""Something that is read once for all who ask for it at about the same time."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Shared(Generic[T]):
    """However many ask, one reads; and where reading takes long, less often. Who comes while it is read waits for that,
    and is told the same, also if it fails."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float, share: float = 0.1) -> None:
        """`seconds`: how old an answer may be; `share`: of the time that may go into reading."""
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
            self._reading.add_done_callback(_seen)
        return await asyncio.shield(self._reading)  # which others wait for too

    async def _read_once(self) -> T:
        begin = time.monotonic()
        value = await self._read()
        self._good_until = begin + max(self._seconds, (time.monotonic() - begin) / self._share)
        return value


class SharedByKey(Generic[K, T]):
    """One such thing for each key. Those that were asked for last are kept."""

    def __init__(self, read: Callable[[K], Awaitable[T]], seconds: Callable[[K], float], most: int = 100) -> None:
        """`seconds`: how old the answer for that key may be; `most`: how many are kept."""
        self._read = read
        self._seconds = seconds
        self._most = most
        self._kept: OrderedDict[K, Shared[T]] = OrderedDict()

    async def get(self, key: K) -> T:
        """Raises what `read` raises."""
        shared = self._kept.setdefault(key, Shared(partial(self._read, key), self._seconds(key)))
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return await shared.get()


def _seen(task: asyncio.Task[T]) -> None:
    """An error that nobody waits for any more is nobody's news."""
    if not task.cancelled():
        task.exception()
