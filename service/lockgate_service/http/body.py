"""Request bodies: decoded, and checked for what Postgres cannot store."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Request

from lockgate_service.http.problems import invalid, invalid_body

# What Postgres refuses in a JSON string (NUL, half a surrogate pair), or what makes it work hard (a number of a few
# letters that takes thousands of digits). Also finds what is right, such as whole pairs; `_unstorable` decides.
_SUSPICIOUS_TEXT = re.compile(rb"\\u0000|\\u[dD][89a-fA-F]")
_SUSPICIOUS_NUMBER = re.compile(rb"[0-9][eE][+-]?[0-9]{3}")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NO_BRACKETS_NOR_QUOTES = bytes(set(range(256)) - set(b'[]{}"'))
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
# A string, and whether it is the name of a field.
_STRING_OR_NAME = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?', re.DOTALL)
_NAMED_FIELD = re.compile(r"field `(?P<field>[^`]*)`")
# More objects than this surely have a name in common, so a comparison of all names would prove nothing.
_FEW_OBJECTS = 10
_EXPONENT_MAX = 400
# Every reader, Postgres included, goes a step deeper into its stack for each level.
NESTING_MAX = 100
# Bytes.
TASKS_MAX = 4 * 1024 * 1024  # of a request that creates tasks; a payload of 1 MiB may need more than that to be written
OTHERS_MAX = 512 * 1024
_DIGITS_MAX = 1024 * 1024  # what a payload may have


class StrictRequest(Request[Any, Any, Any]):
    """Makes Litestar use `decode` for `data`, which names fields and keeps a Raw as it came."""

    async def json(self) -> Any:
        return decode(await self.body(), self.route_handler.parsed_fn_signature.parameters["data"].annotation)


def decode(body: bytes, into: Any) -> Any:
    """Raises Refusal (400) that names the field, or `body` if it is about none."""
    if body.count(b"[") + body.count(b"{") > NESTING_MAX:
        _refuse_nested(body)
    text = b"\\u" in body and _SUSPICIOUS_TEXT.search(body)
    if text or not _is_utf8(body) or _SUSPICIOUS_NUMBER.search(body):
        _refuse_unstorable(body)
    try:
        decoded = msgspec.json.decode(body, type=into)
    except msgspec.ValidationError as error:
        raise invalid_body(*field_and_message(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid("body", str(error)) from None
    _refuse_repeated(body)
    return decoded


def _refuse_nested(body: bytes) -> None:
    if b"\\" in body:
        brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    else:  # every other piece between quotes is a string: five times as fast
        brackets = b"".join(body.translate(None, _NO_BRACKETS_NOR_QUOTES).split(b'"')[::2])
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > NESTING_MAX:
            raise invalid("body", f"is nested more than {NESTING_MAX} deep")


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_repeated(body: bytes) -> None:
    """Readers differ in which value of a repeated name they take."""
    if body.count(b"{") <= _FEW_OBJECTS:
        names = [name for name, is_name in _STRING_OR_NAME.findall(body) if is_name]
        if len(set(names)) == len(names) and b"\\" not in b"".join(names):
            return
    # In objects of their own, perhaps.
    json.loads(body.decode(), object_pairs_hook=_unrepeated, parse_int=str, parse_float=str)


def _unrepeated(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for place, name in enumerate(names) if name in names[:place])
        raise invalid("body", f"has a field more than once: {name[:100]}")


def field_and_message(text: str) -> tuple[str, str]:
    """msgspec names a field by its path, or in the sentence when it is missing or unknown."""
    message, _, path = text.partition(" - at `$")
    path = path.strip("`.")
    named = _NAMED_FIELD.search(message)
    field = f"{path}.{named['field']}" if named else path
    return field.strip(".") or "body", message


def _refuse_unstorable(body: bytes) -> None:
    """Names the field that holds what Postgres cannot store, if there is one and the body can be read."""
    try:
        # Bytes that are no UTF-8 become lone surrogates here, so one search finds both.
        whole = json.loads(body.decode("utf-8", "surrogateescape"), parse_float=_Numbers().read, parse_int=str)
    except ValueError:
        if not _is_utf8(body):
            raise invalid("body", "is not UTF-8") from None
        return  # the decoder says what is wrong
    for name, value in _fields(whole):
        if (message := no_text(name)) is not None:
            raise invalid("body", f"has a field whose name {message}")
        if (message := _unstorable(value)) is not None:
            raise invalid_body(name, message)


def _fields(whole: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a body, and of its items."""
    if not isinstance(whole, dict):
        yield "body", whole
        return
    for name, value in whole.items():
        if name == "items" and isinstance(value, list):
            for number, item in enumerate(value):
                yield from ((f"items[{number}].{inner}", rest) for inner, rest in _fields(item))
        else:
            yield name, value


class _Numbers:
    """Reads the numbers of one body, and counts the digits with which Postgres would write them."""

    def __init__(self) -> None:
        self._digits = 0

    def read(self, text: str) -> float:
        """NaN for a number that other readers cannot read. Raises Refusal (400)."""
        exponent = abs(int(text.lower().partition("e")[2] or 0))
        self._digits += exponent
        if self._digits > _DIGITS_MAX:
            raise invalid("body", f"holds numbers that have more than {_DIGITS_MAX} digits together")
        return float(text) if exponent <= _EXPONENT_MAX and math.isfinite(float(text)) else math.nan


def no_text(value: str) -> str | None:
    """What a string holds that Postgres has no text for; None if it can be stored."""
    found = _NO_TEXT.search(value)
    if found is None:
        return None
    if found[0] == "\0":
        return "holds a NUL character (U+0000), which cannot be stored"
    return "holds half a surrogate pair or is not UTF-8, which cannot be stored"


def _unstorable(value: Any) -> str | None:
    """What is wrong with a value or anything in it; None if it can be stored."""
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest += [*one, *one.values()]
        elif isinstance(one, list):
            rest += one
        elif isinstance(one, str):
            if (message := no_text(one)) is not None:
                return message
        elif isinstance(one, float) and math.isnan(one):
            return f"holds a number beyond 1e308 or with an exponent beyond {_EXPONENT_MAX}"
    return None
