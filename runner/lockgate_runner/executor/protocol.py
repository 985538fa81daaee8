"""What a runner and its executor say to each other: one JSON document per frame, behind its length in four bytes.

Three pipes: orders, which the executor's main thread takes one by one; control, about the order that executes, which a
thread of its own reads meanwhile; and answers.
"""

import os
import struct
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias, TypeVar

import msgspec

LENGTH = struct.Struct("!I")
FRAME_LIMIT = 8 * 1024 * 1024
"""Bytes of one frame; payloads and results are limited to 1 MiB long before."""

AT_ONCE = 64 * 1024
"""Bytes taken from a pipe at once: as many as it holds."""

Message = TypeVar("Message")


class Execute(msgspec.Struct, frozen=True):
    """Order: execute this task. ``until`` is on the boot-time clock: the executor must not live past it."""

    task: int
    lease: int
    queue: str
    kind: str
    payload: msgspec.Raw
    attempt: int
    max_attempts: int
    until: float


class Alive(msgspec.Struct, tag="alive", frozen=True):
    """Control: the slot is still ours; live until then."""

    lease: int
    until: float


class Ask(msgspec.Struct, tag="ask", frozen=True):
    """Control: ask the handler of this lease to stop."""

    lease: int


class Heard(msgspec.Struct, tag="heard", frozen=True):
    """Control: the last progress is stored, send the next."""

    lease: int


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """From the executor: the handlers are loaded. ``schemas``: JSON Schemas of payloads, of kinds that have one."""

    kinds: list[str]
    schemas: dict[str, msgspec.Raw] = {}


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """From the executor: the handlers cannot be loaded; the executor ends."""

    reason: str


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt did not succeed, as stored in ``task.error``."""

    type: str
    message: str
    traceback: str | None = None


class Ended(msgspec.Struct, tag="ended", frozen=True):
    """From the executor: the handler of this lease has ended; nothing of it executes any more."""

    lease: int
    outcome: Literal["returned", "raised", "retry", "discard", "cancelled"]
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Error | None = None
    retry_after: float | None = None


class Progress(msgspec.Struct, tag="progress", frozen=True):
    """From the executor: how far the handler of this lease is. One at a time: the next follows `Heard`."""

    lease: int
    value: msgspec.Raw


Control: TypeAlias = Alive | Ask | Heard
FromExecutor: TypeAlias = Ready | Refused | Progress | Ended

decode_order: Callable[[bytes], Execute] = msgspec.json.Decoder(Execute).decode
decode_control: Callable[[bytes], Control] = msgspec.json.Decoder(Control).decode
decode_from_executor: Callable[[bytes], FromExecutor] = msgspec.json.Decoder(FromExecutor).decode
_encoder = msgspec.json.Encoder()


def frame(message: Execute | Control | FromExecutor) -> bytes:
    """The bytes of one message on a pipe."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


class Frames:
    """What has come of a pipe and is no whole frame yet."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> Iterator[bytes]:
        """The bodies of the frames that are whole with these bytes.

        Raises:
            ValueError: these are no frames (a handler may have written into the pipe).
        """
        self._bytes += data
        while len(self._bytes) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._bytes)
            if size > FRAME_LIMIT:
                raise ValueError(f"a frame of {size} bytes")
            end = LENGTH.size + size
            if len(self._bytes) < end:
                return
            body = bytes(self._bytes[LENGTH.size : end])
            del self._bytes[:end]
            yield body


def received(descriptor: int, decode: Callable[[bytes], Message]) -> Iterator[Message]:
    """What comes through a blocking pipe, until its end."""
    frames = Frames()
    while data := os.read(descriptor, AT_ONCE):
        yield from map(decode, frames.add(data))
