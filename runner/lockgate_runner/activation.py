"""A supervised runner's cue: it loads everything, and touches nothing of the queue before its supervisor says so."""

import asyncio
import select
import socket
from contextlib import suppress

import msgspec


class Turn(msgspec.Struct, frozen=True):
    """What a supervisor has to say with the cue.

    ``inherit``: names of runners that are proved dead together with their executors. ``keep_executor``: whether to
    have an executor loaded also without a slot, so that a slot that comes is of use at once. ``metrics``: where to
    serve metrics, in the place of what the settings say.
    """

    inherit: list[str] = []
    keep_executor: bool = False
    metrics: str | None = None


class Cue:
    """The runner's end of its supervisor's socket: hears one line, and says whether the runner holds slots.

    Raises:
        OSError: that descriptor is no socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        self._said = b""

    @property
    def is_here(self) -> bool:
        """Whether there is nothing to wait for. What no cue awaits at its start is a spare."""
        return bool(select.select([self._socket], [], [], 0)[0])

    async def given(self) -> Turn | None:
        """Waits for it; None when there is nothing to do any more.

        The end of the socket is no cue: the supervisor has no use for this runner, or is dead itself.

        Raises:
            msgspec.DecodeError: the supervisor is of another version.
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
        return msgspec.json.decode(heard, type=Turn)

    def dismiss(self) -> None:
        """Ends the wait, unless the cue was given already."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def holding(self, slots: bool) -> None:
        """Tells the supervisor whether this runner holds slots. The first time also says that it could start."""
        say = b"+" if slots else b"-"
        if say != self._said:
            self._said = say
            with suppress(OSError):
                self._socket.send(say)
