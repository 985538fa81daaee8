"""The command: settings, then serve until told to stop."""

import asyncio
import contextlib
import errno
import gc
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

import click
import psycopg
import uvicorn

from lockgate import log
from lockgate.errors import UserError
from lockgate.options import LOG_FORMAT, LOG_LEVEL
from lockgate_service.app import asks_for_keys, create_app
from lockgate_service.auth import db
from lockgate_service.http import prefer
from lockgate_service.http.middleware import edged
from lockgate_service.http.problems import Refusal
from lockgate_service.options import DATABASE_URL
from lockgate_service.pool import Pool
from lockgate_service.server import protocol
from lockgate_service.settings import Settings

# Seconds that open requests get to end after a TERM or Ctrl-C, before they are cut off.
STOP_SECONDS = 5
# Those that only wait for a task or watch, once nobody else is left: to answer thousands takes seconds where others use
# the machine too. Whoever asked can ask again.
WAITING_STOP_SECONDS = 2
BACKLOG = 2048
UNREAD_SECONDS = 60


class Server(uvicorn.Server):
    """A uvicorn server after whose orderly end the process lives on, and exits 0. Says when it begins to stop, so that
    what waits or streams does not hold it up."""

    def __init__(
        self, config: uvicorn.Config, stopping: asyncio.Event, end: Callable[[int], None] | None = None
    ) -> None:
        """`end`: ends the process, so many who wait being cut off. Without it all are waited for."""
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
        # uvicorn would raise the signal again once it has stopped, which makes an orderly stop look like a killing.
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def waits(scope: Mapping[str, Any]) -> bool:
    """Whether that is a request for something that may be long in coming, and that can be asked for again."""
    prefers = any(name == prefer.HEADER.lower().encode() for name, _ in scope["headers"])
    return scope["method"] == "GET" and (prefers or scope["path"].endswith("/events"))


def addresses(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """As given. Raises click.BadParameter."""
    try:
        for one in (value or "").split(",") if value else ():
            ip_network(one.strip())
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return value or None


def root_path(_: click.Context, __: click.Parameter, value: str) -> str:
    """Without a slash at its end. Raises click.BadParameter."""
    path = value.rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise click.BadParameter(f"{value!r} is not of the form /lockgate or /tools/lockgate.")
    return path


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@DATABASE_URL
@click.option(
    "--host", envvar="LOCKGATE_HOST", show_envvar=True, default="127.0.0.1", show_default=True, help="Where to listen."
)
@click.option(
    "--port",
    envvar="LOCKGATE_PORT",
    show_envvar=True,
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Where to listen; 0 takes any free port and logs it.",
)
@click.option(
    "--open/--no-open",
    envvar="LOCKGATE_OPEN",
    show_envvar=True,
    default=False,
    show_default="off",
    help="Ask nobody for a key, wherever it listens: whoever can connect may do everything.",
)
@click.option(
    "--published",
    envvar="LOCKGATE_PUBLISHED",
    show_envvar=True,
    metavar="ADDRESS",
    show_default="--host",
    help="In a container, where its port is published: decides, in place of --host, whether others can connect.",
)
@click.option(
    "--trusted-proxies",
    envvar="LOCKGATE_TRUSTED_PROXIES",
    show_envvar=True,
    metavar="ADDRESSES",
    callback=addresses,
    show_default="none",
    help="Whose X-Forwarded-For and -Proto are believed: IP addresses and networks, with commas between.",
)
@click.option(
    "--root-path",
    envvar="LOCKGATE_ROOT_PATH",
    show_envvar=True,
    metavar="PATH",
    default="",
    callback=root_path,
    show_default="none",
    help="Below which path a proxy has the service, such as /lockgate.",
)
@click.option(
    "--pool-size",
    envvar="LOCKGATE_POOL_SIZE",
    show_envvar=True,
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Database connections at most.",
)
@LOG_FORMAT
@LOG_LEVEL
def main(**options: Any) -> None:
    """Serve tasks over HTTP.

    Starts whether or not the database can be reached: GET /health/ready says when it can. Where others than this
    machine can connect, it refuses to start before there is a key (`lockgate keys add`), or --open.
    """
    settings = Settings(**options)
    log.configure(settings.log_format, settings.log_level, name="service")
    serve(settings)


def serve(settings: Settings) -> None:
    """Returns after an orderly stop."""
    listener = listen(settings.host, settings.port)
    if asks_for_keys(settings) and asyncio.run(has_keys(settings.database_url)) is False:
        raise UserError(
            f"whoever can reach {settings.published or settings.host} could do everything: "
            "make a key first (lockgate keys add NAME), or say so (--open)",
        )
    stopping = asyncio.Event()
    config = uvicorn.Config(
        edged(create_app(settings, stopping), settings.root_path),
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
        log.logger.warning("open", why="nobody is asked for a key: whoever can connect may do everything")
    Server(config, stopping, end).run(sockets=[listener])
    log.logger.info("stopped")


def end(waiting: int) -> None:
    """Does not return."""
    log.logger.warning("cut off", waiting=waiting)
    log.logger.info("stopped")
    log.flush()
    os._exit(0)


async def has_keys(database_url: str) -> bool | None:
    """Whether a key was ever made. None: the database does not say, for some seconds at most."""
    pool = Pool(database_url, 1)
    try:
        await pool.open()
        found, _ = await db.in_force(pool)
    except (psycopg.Error, Refusal):
        return None
    else:
        return found
    finally:
        await pool.close()


def listen(host: str, port: int) -> socket.socket:
    """Raises UserError if that address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} on {host} is taken") from None
        raise UserError(f"cannot listen on port {port} of {host}: {error.strerror or error}") from None
    # asyncio does this only for sockets it made itself; without it every answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A client that is gone, or reads nothing of what it is sent, is given up.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
    return listener


if __name__ == "__main__":
    sys.exit(main())
