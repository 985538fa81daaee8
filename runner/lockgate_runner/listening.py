"""The wake session: listens, and says where to look. Losing it costs nothing but earliness."""

import asyncio
from collections.abc import Callable

import psycopg
import structlog

from lockgate.backoff import Backoff

CHECK_EVERY = 5.0
"""Seconds of silence after which the connection is asked whether it lives, and seconds it has to answer."""

CHECK_MOST = 60.0
"""The first of these, at most, in a crowd of runners that stand by."""

UNHEARD = 3000
"""Milliseconds after which either side gives the other up. Keepalives alone are mute while data is under way, and a
server that has lost us would keep this session, one of few that it has room for, for up to hours."""

LISTEN = f"""
set idle_session_timeout = 0;
set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 3;
set tcp_user_timeout = {UNHEARD};
listen lockgate
"""

log = structlog.get_logger()


async def listen(url: str, name: str, heard: Callable[[str], None], pace: Callable[[], float]) -> None:
    """Calls ``heard`` with the text of each notification, and with "" after each (re)connection; never returns.

    ``pace`` says how many times as long as others it may go without asking whether the connection lives.
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
                tcp_user_timeout=UNHEARD,
            ) as connection:
                connection.add_notify_handler(lambda notification: heard(notification.payload))  # beside an answer
                await connection.execute(LISTEN)
                heard("")
                backoff.reset()
                while True:
                    # By libpq itself: the way through psycopg's `notifies` is longer, and a task waits for it.
                    while notification := connection.pgconn.notifies():
                        heard(notification.extra.decode())
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
    """Whether there was something to read within so many seconds."""
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
