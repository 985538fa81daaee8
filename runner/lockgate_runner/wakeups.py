"""What wakes a runner: times, answers of its executors, and the notifications of a connection of their own."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import psycopg
import structlog

from lockgate.backoff import Backoff
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.process import Answer

CHECK_EVERY = 5.0
"""Seconds of silence after which the listening connection is checked, and seconds the check may take."""

CHECK_MOST = 60.0
"""The first of these, at most, for one of many standbys."""

TCP_TIMEOUT = 3000
"""Milliseconds after which either side gives the other up. Keepalives do not fire while data is under way, and a
server that has lost us would keep this session, one of few that it has room for, for up to hours."""

LISTEN = f"""
set idle_session_timeout = 0;
set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 3;
set tcp_user_timeout = {TCP_TIMEOUT};
listen lockgate
"""

log = structlog.get_logger()


class Wakeups:
    """The times and the events a runner waits for. All that happens beside its one coroutine only writes here.

    Times are on the clock of deadlines.
    """

    def __init__(self) -> None:
        self.poll_at = 0.0
        """When to poll queues and slots again."""
        self.due_at: dict[str, float] = {}
        """By queue: when its next scheduled task is due."""
        self._queues: set[str] = set()
        self._answers: deque[Answer] = deque()
        self._event = asyncio.Event()

    def answer(self, answer: Answer) -> None:
        """An executor answers or dies."""
        self._answers.append(answer)
        self._event.set()

    def answers(self) -> Iterator[Answer]:
        """Yields the answers that were not taken yet, in their order."""
        while self._answers:
            yield self._answers.popleft()

    def ring(self) -> None:
        """Wakes the runner for another round."""
        self._event.set()

    def wake(self, queue: str) -> None:
        """Wakes the runner to claim for the idle slots of this queue."""
        self._queues.add(queue)
        self._event.set()

    def poll(self) -> None:
        """Wakes the runner to poll queues and slots."""
        self.poll_at = 0.0
        self._event.set()

    def woken(self) -> set[str]:
        """Returns the queues to claim from, and forgets them."""
        now = watchdog.now()
        for name in [name for name, due in self.due_at.items() if due <= now]:
            del self.due_at[name]
            self._queues.add(name)
        woken, self._queues = self._queues, set()
        return woken

    async def wait(self, times: Iterable[float]) -> None:
        """Waits for an event, the next poll or due task, or the first of these times."""
        delay = min([self.poll_at, *self.due_at.values(), *times]) - watchdog.now()
        if delay > 0 and not self._queues:
            timer = asyncio.get_running_loop().call_later(delay, self._event.set)
            await self._event.wait()
            timer.cancel()
        self._event.clear()


async def listen(url: str, name: str, notified: Callable[[str], None], pace: Callable[[], float]) -> None:
    """Calls ``notified`` with the text of each notification, and with "" after each (re)connection; never returns.

    Losing this connection costs nothing but earliness. ``pace`` returns how many times as long as others it may go
    without a check of the connection.
    """
    backoff = Backoff(0.1, 5.0)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                url,
                autocommit=True,
                connect_timeout=3,
                application_name=f"lockgate-wake {name}"[:63],
                keepalives_idle=2,
                keepalives_interval=1,
                keepalives_count=3,
                tcp_user_timeout=TCP_TIMEOUT,
            ) as connection:
                connection.add_notify_handler(lambda notification: notified(notification.payload))  # beside an answer
                await connection.execute(LISTEN)
                notified("")
                backoff.reset()
                while True:
                    # By libpq itself: the way through psycopg's `notifies` is longer, and a task waits for it.
                    while notification := connection.pgconn.notifies():
                        notified(notification.extra.decode())
                    if await _readable(connection.fileno(), min(CHECK_EVERY * pace(), CHECK_MOST)):
                        connection.pgconn.consume_input()
                    else:
                        async with asyncio.timeout(CHECK_EVERY):
                            await connection.execute("select 1")
        except (psycopg.Error, OSError, TimeoutError) as error:
            pause = backoff.next()
            log.warning("wake session lost", error=str(error).strip(), retry_in=round(pause, 2))
            await asyncio.sleep(pause)


async def _readable(descriptor: int, limit: float) -> bool:
    """Waits at most so many seconds for something to read; returns whether there is."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        async with asyncio.timeout(limit):
            return await readable.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
