"""A supervised runner's cue: it loads everything, and touches nothing of the queue before its supervisor says so."""

import asyncio
import select
import socket
from contextlib import suppress


class Cue:
    """The runner's end of its supervisor's socket: hears one line, says one byte.

    Raises:
        OSError: that descriptor is no socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)

    @property
    def is_here(self) -> bool:
        """Whether there is nothing to wait for. What no cue awaits at its start is a spare."""
        return bool(select.select([self._socket], [], [], 0)[0])

    async def given(self) -> list[str] | None:
        """Waits for it: the names of dead runners to inherit from, or None when there is nothing to do any more.

        The end of the socket is no cue: the supervisor has no use for this runner, or is dead itself.
        """
        heard = b""
        while not heard.endswith(b"\n"):
            try:
                more = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
            except ConnectionError:
                return None
            if not more:
                return None
            heard += more
        return heard.decode().split()[1:]

    def dismiss(self) -> None:
        """Ends the wait, unless the cue was given already."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def serving(self) -> None:
        """Tells the supervisor that this runner could start: whatever it ends of from now on, it is not that."""
        with suppress(OSError):
            self._socket.send(b"s")
