"""`lockgate status`: what goes on, live."""

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.live import Live

from lockgate.commands import snapshot, status_view
from lockgate.commands.database import Database, asks_database
from lockgate.commands.snapshot import Snapshot
from lockgate.errors import UserError, explain
from lockgate.signals import Signals

PERIOD = 1.0  # seconds between two looks
SILENCE_LIMIT = 3.0  # seconds without an answer until that is said
CONNECT_LIMIT = 3  # seconds, once it is known that the database can be reached at all


@click.command()
@click.option("--once", is_flag=True, help="Print it once and end, as is done without a terminal.")
@asks_database
def status(database: Database, once: bool) -> None:
    """Watch the queues: their slots, the runners standing by, what waits, the newest failures.

    Refreshed every second until Ctrl-C. A database that goes away is waited for.
    """
    console = Console()
    with database.connect() as connection:
        where = f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"
        first = snapshot.take(connection)
    if once or not console.is_terminal:
        console.print(status_view.fitting(console, first, where, _clock()))
        return
    watch = Watch(database, first)
    with Signals() as signals:
        try:
            threading.Thread(target=watch.look, name="watch", daemon=True).start()
            _show(console, watch, where)
        except KeyboardInterrupt:
            if signals.number != 2:  # Ctrl-C is how one leaves; others mean something else
                sys.exit(128 + signals.number)


def _show(console: Console, watch: "Watch", where: str) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            view = status_view.fitting(console, watch.latest, where, watch.clock, watch.trouble)
            live.update(view, refresh=True)
            watch.news.wait(PERIOD)
            watch.news.clear()


@dataclass
class Watch:
    """Looks once a second, in a thread: an answer that does not come must not hold up the terminal."""

    database: Database
    latest: Snapshot
    news: threading.Event = field(default_factory=threading.Event)
    clock: str = field(default_factory=lambda: _clock())
    _seen: float = field(default_factory=time.monotonic)
    _error: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why `latest` is not the latest there is."""
        if self._error is None and time.monotonic() - self._seen > SILENCE_LIMIT:
            return "the database does not answer"
        return self._error

    def look(self) -> None:
        """Look for ever, going on when the database is back."""
        connection: psycopg.Connection[Any] | None = None
        while True:
            try:
                connection = connection or self.database.connect(connect_timeout=CONNECT_LIMIT)
                self.latest = snapshot.take(connection)
                self.clock, self._seen, self._error = _clock(), time.monotonic(), None
            except (psycopg.Error, UserError) as error:
                self._error = explain(error) or f"{type(error).__name__}: {error}"
                if connection:
                    connection.close()
                connection = None
            self.news.set()
            time.sleep(PERIOD)


def _clock() -> str:
    return time.strftime("%H:%M:%S")
