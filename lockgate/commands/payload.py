"""A payload as it is given on the command line: JSON, `-` for standard input, `@file`."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

LIMIT = 8 * 1024 * 1024  # bytes to read; stored, it may have 1 MiB, but blanks are not stored
SHOWN = 20  # characters on either side of what is wrong


class Payload(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """The text of a JSON value, checked; it is handed on as it was written, so that no number loses a digit."""

    name = "payload"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        def refuse(why: str) -> NoReturn:
            self.fail(why, param, ctx)

        try:
            text = _read(value).decode()
        except OSError as error:
            refuse(f"{value.removeprefix('@')} cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            refuse(f"no UTF-8 at byte {error.start + 1}")
        if len(text) > LIMIT:
            refuse("larger than 1 MiB")
        try:
            json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            refuse(f"no JSON at line {error.lineno}, column {error.colno}: {error.msg}: {_around(text, error.pos)}")
        except RecursionError:
            refuse("nested too deep")
        except ValueError as error:
            refuse(str(error))
        return text


def _read(value: str) -> bytes:
    if value == "-":
        return sys.stdin.buffer.read(LIMIT + 1)
    if value.startswith("@"):
        with Path(value[1:]).open("rb") as file:
            return file.read(LIMIT + 1)
    return value.encode(errors="surrogateescape")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _around(text: str, position: int) -> str:
    """Return the place in its line, marked."""
    begin = max(text.rfind("\n", 0, position) + 1, position - SHOWN)
    end = min(text.find("\n", position) % (len(text) + 1), position + SHOWN)
    return f"{text[begin:position]} >>> {text[position:end] or 'the end'}"
