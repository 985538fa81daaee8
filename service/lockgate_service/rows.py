"""Rows of Postgres as msgspec Structs: the fields of a Struct are the columns of its SELECT, in that order."""

from typing import Annotated, Any, get_args

from msgspec import Meta, Struct, structs

_TIME = Meta(extra_json_schema={"format": "date-time"}, examples=["2026-05-01T12:00:00.250000Z"])
# As Postgres writes it (see `utc`), so that years beyond 9999 work too.
Time = Annotated[str, _TIME]


def utc(expression: str) -> str:
    """A timestamptz as text: 2026-05-01T12:00:00.000000Z."""
    return f"""to_char({expression} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def columns(shape: type[Struct], **sources: str) -> str:
    """The select list of a Struct. A field's column has its name, or is the expression that `sources` has for it; the
    column of a Time becomes text."""

    def column(name: str, declared: Any) -> str:
        source = sources.get(name, name)
        source = utc(source) if _is_time(declared) else source
        return source if source == name else f"{source} as {name}"

    return ", ".join(column(field.name, field.type) for field in structs.fields(shape))


def _is_time(declared: Any) -> bool:
    return _TIME in getattr(declared, "__metadata__", ()) or any(map(_is_time, get_args(declared)))
