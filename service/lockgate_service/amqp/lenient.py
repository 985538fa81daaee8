"""Properties that RabbitMQ accepts and our client's decoder does not.

It raises on text that is not UTF-8, and on times that Python has no name for. That ends the connection; the broker then
delivers the same message again, and so on for ever. Read leniently, such a message can be refused like any other.
"""

from typing import Any

from pamqp import common, decode

UNREADABLE = "unreadable"


def install() -> None:
    """For the whole process; again makes no difference."""
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _time
    decode.METHODS["table"] = _table


def _short_text(value: bytes) -> tuple[int, str]:
    """Bytes that are no UTF-8 become lone surrogates, which nothing takes for text."""
    length = value[0]
    return length + 1, value[1 : length + 1].decode("utf-8", "surrogateescape")


def _time(value: bytes) -> tuple[int, Any]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, UNREADABLE


def _table(value: bytes) -> tuple[int, Any]:
    try:
        return decode.field_table(value)
    except (ValueError, OverflowError, RecursionError):
        return int(common.Struct.integer.unpack(value[:4])[0]) + 4, {UNREADABLE: True}
