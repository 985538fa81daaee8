"""What a runner and its hand say to each other: one JSON document per frame, behind its length in four bytes."""

import os
import struct
from typing import Literal, TypeAlias

import msgspec

LENGTH = struct.Struct("!I")
FRAME_LIMIT = 8 * 1024 * 1024
"""Bytes of one frame; payloads and results are limited to 1 MiB long before."""


class Execute(msgspec.Struct, tag="execute", frozen=True):
    """To the hand: execute this task. ``until`` is on the boot-time clock: the hand must not live past it."""

    task: int
    lease: int
    queue: str
    kind: str
    payload: msgspec.Raw
    attempt: int
    max_attempts: int
    until: float


class Alive(msgspec.Struct, tag="alive", frozen=True):
    """To the hand: the slot is still ours; live until then."""

    until: float


class Ask(msgspec.Struct, tag="ask", frozen=True):
    """To the hand: ask the handler of this lease to stop."""

    lease: int


class Heard(msgspec.Struct, tag="heard", frozen=True):
    """To the hand: the last progress is stored, send the next."""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """From the hand: the handlers are loaded. ``schemas``: JSON Schemas of payloads, of kinds that have one."""

    kinds: list[str]
    schemas: dict[str, msgspec.Raw] = {}


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """From the hand: the handlers cannot be loaded; the hand ends."""

    reason: str


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt did not succeed, as stored in ``task.error``."""

    type: str
    message: str
    traceback: str | None = None


class Ended(msgspec.Struct, tag="ended", frozen=True):
    """From the hand: the handler of this lease has ended; nothing of it executes any more."""

    lease: int
    outcome: Literal["returned", "raised", "retry", "discard", "cancelled"]
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Error | None = None
    retry_after: float | None = None


class Progress(msgspec.Struct, tag="progress", frozen=True):
    """From the hand: how far the handler of this lease is. One at a time: the next follows `Heard`."""

    lease: int
    value: msgspec.Raw


ToHand: TypeAlias = Execute | Alive | Ask | Heard
FromHand: TypeAlias = Ready | Refused | Progress | Ended

_to_hand = msgspec.json.Decoder(ToHand)
_from_hand = msgspec.json.Decoder(FromHand)
_encoder = msgspec.json.Encoder()


def frame(message: ToHand | FromHand) -> bytes:
    """The bytes of one message on a pipe."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def read_to_hand(descriptor: int) -> ToHand | None:
    """The next message on a blocking pipe; None at its end."""
    header = _read_exactly(descriptor, LENGTH.size)
    body = header and _read_exactly(descriptor, LENGTH.unpack(header)[0])
    return _to_hand.decode(body) if body else None


def decode_from_hand(body: bytes) -> FromHand:
    """One message of a hand.

    Raises:
        msgspec.DecodeError: those bytes are no such message (a handler may have written into the pipe).
    """
    message: FromHand = _from_hand.decode(body)
    return message


def _read_exactly(descriptor: int, size: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        chunk = os.read(descriptor, size - len(chunks))
        if not chunk:
            return b""
        chunks += chunk
    return bytes(chunks)
