"""Something that is read once for all who ask for it at about the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """However many ask, one reads; and where reading takes long, less often."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float, share: float = 0.1) -> None:
        """`seconds`: how old an answer may be; `share`: of the time that may go into reading."""
        self._read = read
        self._seconds = seconds
        self._share = share
        self._reading = asyncio.Lock()
        self._value: T | None = None
        self._good_until = float("-inf")

    async def get(self) -> T:
        """Raises what `read` raises."""
        async with self._reading:
            begin = time.monotonic()
            if self._value is None or begin >= self._good_until:
                self._value = await self._read()
                took = time.monotonic() - begin
                self._good_until = begin + max(self._seconds, took / self._share)
            return self._value
