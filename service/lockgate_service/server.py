"""The server: listens, speaks HTTP by uvicorn, and stops in order."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import h11
import psycopg
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lockgate import log
from lockgate.errors import UserError
from lockgate_service.app import create_app
from lockgate_service.auth import keys
from lockgate_service.http.middleware import last_problem, surrounded, with_usual_headers
from lockgate_service.http.params import PREFER
from lockgate_service.http.problems import Refusal, invalid
from lockgate_service.options import Settings
from lockgate_service.pool import Pool

# Seconds that open requests get to end after a TERM or Ctrl-C, before they are cut off.
STOP_SECONDS = 5
# Seconds for requests that only wait for a task or watch, once no others are left: to answer thousands takes seconds
# where others use the machine too, and each can be sent again.
WAITING_STOP_SECONDS = 2
BACKLOG = 2048
UNREAD_SECONDS = 60


class Server(uvicorn.Server):
    """A uvicorn server whose process lives on after an orderly end, and exits 0. It sets `stopping` when it begins to
    stop, so that requests that wait or stream do not hold it up."""

    def __init__(
        self, config: uvicorn.Config, stopping: asyncio.Event, end: Callable[[int], None] | None = None
    ) -> None:
        """`end`: ends the process, and cuts off so many requests that wait. Without it the server waits for all."""
        super().__init__(config)
        self._stopping = stopping
        self._end = end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        cutting = asyncio.create_task(self._cut_off(self._end)) if self._end else None
        await super().shutdown(sockets)
        if cutting:
            cutting.cancel()

    async def _cut_off(self, end: Callable[[int], None]) -> None:
        await asyncio.sleep(WAITING_STOP_SECONDS)
        while True:
            cycles = [getattr(connection, "cycle", None) for connection in self.server_state.connections]
            scopes = [cycle.scope for cycle in cycles if cycle is not None and not cycle.response_complete]
            if scopes and all(map(waits, scopes)):
                end(len(scopes))
            await asyncio.sleep(0.1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again once it has stopped, which makes an orderly stop look like a kill.
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def waits(scope: Mapping[str, Any]) -> bool:
    """Whether a request may take long by nature, and can be sent again."""
    prefers = any(name == PREFER.lower().encode() for name, _ in scope["headers"])
    return scope["method"] == "GET" and (prefers or scope["path"].endswith("/events"))


def protocol(root: str) -> type[H11Protocol]:
    """uvicorn's, which answers what is not HTTP with a problem document too. `root`: our path below a proxy."""
    refusal = invalid("request", "is not HTTP/1.1, or its first line and headers have more than 64 KiB")
    headers, body = last_problem(refusal, root)
    headers = with_usual_headers(headers, root)

    class Protocol(H11Protocol):
        """Answers only if it has not begun to answer."""

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (always the same)
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                for event in (
                    h11.Response(status_code=400, headers=headers, reason=HTTPStatus.BAD_REQUEST.phrase.encode()),
                    h11.Data(data=body),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Protocol


def serve(settings: Settings) -> None:
    """Returns after an orderly stop. Raises UserError."""
    listener = listen(settings.host, settings.port)
    if settings.key_required and asyncio.run(has_keys(settings.database_url)) is False:
        raise UserError(
            f"whoever can reach {settings.published or settings.host} could do everything: "
            "make a key first (lockgate keys add NAME), or say so (--open)",
        )
    stopping = asyncio.Event()
    config = uvicorn.Config(
        surrounded(create_app(settings, stopping), settings.root_path),
        http=protocol(settings.root_path),
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies or "",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=STOP_SECONDS,
        backlog=BACKLOG,
    )
    # What is loaded by now stays. Each time the collector looked through it, every request waited a tenth of a second.
    gc.collect()
    gc.freeze()
    host, port = listener.getsockname()[:2]
    log.logger.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")
    if settings.open:
        log.logger.warning("open", why="no request needs a key: everybody who can connect may do everything")
    Server(config, stopping, end).run(sockets=[listener])
    log.logger.info("stopped")


def end(waiting: int) -> None:
    """Does not return."""
    log.logger.warning("waiting requests cut off", waiting=waiting)
    log.logger.info("stopped")
    log.flush()
    os._exit(0)


async def has_keys(database_url: str) -> bool | None:
    """Whether a key was ever made. None: the database does not say within some seconds."""
    pool = Pool(database_url, 1)
    try:
        await pool.open()
        return (await keys.read(pool)).any
    except (psycopg.Error, Refusal):
        return None
    finally:
        await pool.close()


def listen(host: str, port: int) -> socket.socket:
    """Raises UserError if the address is taken or not ours."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} on {host} is taken") from None
        raise UserError(f"cannot listen on port {port} of {host}: {error.strerror or error}") from None
    # asyncio does this only for sockets that it made. Without it every answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Gives up a client that is gone, or reads nothing of its answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
    return listener
