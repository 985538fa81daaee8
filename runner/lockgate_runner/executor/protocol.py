"""The messages between a runner and its executor: one JSON document per frame, behind its length in four bytes.

There are three pipes: orders, which the executor's main thread takes one by one; control, about the order that
executes, which a thread of the executor reads meanwhile; and answers.
"""

import os
import struct
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias, TypeVar

import msgspec

LENGTH = struct.Struct("!I")
FRAME_LIMIT = 8 * 1024 * 1024
"""Bytes of one frame. Payloads and results are limited to 1 MiB long before."""

READ_SIZE = 64 * 1024
"""Bytes read from a pipe at once: as many as it holds."""

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
    """Control: the slot is still ours; the executor may live until then."""

    lease: int
    until: float


class Interrupt(msgspec.Struct, tag="interrupt", frozen=True):
    """Control: interrupt the handler of this lease."""

    lease: int


class Stored(msgspec.Struct, tag="stored", frozen=True):
    """Control: the last progress is stored; send the next."""

    lease: int


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """Answer: the handlers are loaded. ``schemas``: JSON Schemas of payloads, of the kinds that have one."""

    kinds: list[str]
    schemas: dict[str, msgspec.Raw] = {}


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """Answer: the handlers cannot be loaded; the executor exits."""

    reason: str


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt did not succeed, as stored in ``task.error``."""

    type: str
    message: str
    traceback: str | None = None


class End(msgspec.Struct, tag="end", frozen=True):
    """Answer: the handler of this lease has ended; nothing of it executes any more."""

    lease: int
    outcome: Literal["returned", "raised", "retry", "discard", "cancelled"]
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Error | None = None
    retry_after: float | None = None


class Progress(msgspec.Struct, tag="progress", frozen=True):
    """Answer: the progress of the handler of this lease. One at a time: the next follows `Stored`."""

    lease: int
    value: msgspec.Raw


Control: TypeAlias = Alive | Interrupt | Stored
FromExecutor: TypeAlias = Ready | Refused | Progress | End

decode_order: Callable[[bytes], Execute] = msgspec.json.Decoder(Execute).decode
decode_control: Callable[[bytes], Control] = msgspec.json.Decoder(Control).decode
decode_from_executor: Callable[[bytes], FromExecutor] = msgspec.json.Decoder(FromExecutor).decode
_encoder = msgspec.json.Encoder()


def frame(message: Execute | Control | FromExecutor) -> bytes:
    """Returns the bytes of one message on a pipe."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


class Frames:
    """Cuts the bytes of a pipe into frames, and keeps the part of one that is not whole yet."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> Iterator[bytes]:
        """Yields the bodies of the frames that these bytes complete.

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
    """Yields the messages of a blocking pipe, until its end."""
    frames = Frames()
    while data := os.read(descriptor, READ_SIZE):
        yield from map(decode, frames.add(data))
