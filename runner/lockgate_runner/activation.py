"""Activation of a supervised runner: it loads its handlers, then waits for its supervisor's go-ahead."""

import asyncio
import select
import socket
from contextlib import suppress

import msgspec


class GoAhead(msgspec.Struct, frozen=True):
    """The supervisor's message that starts a runner.

    ``inherit``: names of runners that are proved dead, with their executors. ``keep_executor``: whether the runner
    keeps one executor loaded while it holds no slot. ``metrics``: the address of its metrics, instead of the setting's.
    """

    inherit: list[str] = []
    keep_executor: bool = False
    metrics: str | None = None


class Activation:
    """The runner's end of its supervisor's socket: receives one go-ahead, and reports whether the runner holds slots.

    Raises:
        OSError: the descriptor is no socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        self._reported = b""
        self.waiting = False
        """Whether the runner waits for the go-ahead now."""

    @property
    def is_here(self) -> bool:
        """Whether the supervisor has sent the go-ahead already. A runner that starts without one is a spare."""
        return bool(select.select([self._socket], [], [], 0)[0])

    async def go_ahead(self) -> GoAhead | None:
        """Waits for the go-ahead; None when the socket ends: the supervisor is dead, or does not need this runner.

        Raises:
            msgspec.DecodeError: the supervisor is of another version.
        """
        line = b""
        self.waiting = True
        while not line.endswith(b"\n"):
            try:
                data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
            except ConnectionError:
                return None
            if not data:
                return None
            line += data
        self.waiting = False
        return msgspec.json.decode(line, type=GoAhead)

    def dismiss(self, *_: object) -> None:
        """Ends the wait, unless the go-ahead has come already."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def report(self, holds_slots: bool) -> None:
        """Tells the supervisor whether this runner holds slots. The first report also says that it could start."""
        report = b"+" if holds_slots else b"-"
        if report != self._reported:
            self._reported = report
            with suppress(OSError):
                self._socket.send(report)
