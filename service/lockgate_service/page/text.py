"""How numbers and times are written on the page. files/text.js writes them the same way."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import json

COUNT_MAX = 10_000  # as far as the schema counts
NOTHING = "–"  # noqa: RUF001  (a dash, as set in tables)
PROGRESS_CHARACTERS = 60


def count(number: int | None) -> str:
    """Such as 12,345; 10,000+ for more than is counted."""
    if number is None:
        return NOTHING
    return f"{COUNT_MAX:,}+" if number == COUNT_MAX + 1 else f"{number:,}"


def duration(seconds: float | None) -> str:
    """Of something that is over: 12 ms, 4.2 s, 1 m 05 s."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        return f"{round(seconds * 1000)} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else elapsed(round(seconds))


def elapsed(seconds: float) -> str:
    """Of something that goes on: 4 s, 1 m 05 s, 2 h 10 m, 3 d 04 h."""
    whole = max(0, int(seconds))
    for unit, parts, name, smaller in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // parts:02} {smaller}"
    return f"{whole} s"


def coarse(seconds: float) -> str:
    """In one unit: 4 s, 5 m, 2 h, 3 d."""
    whole = max(0, int(seconds))
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= unit:
            return f"{whole // unit} {name}"
    return f"{whole} s"


def moment(time: str) -> float | None:
    """Seconds since the epoch; None for a time that Python has no date for."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError):
        return None


def plainly(time: str) -> str:
    """2026-05-01 12:00:00 UTC"""
    return f"{time[:10]} {time[11:19]} UTC"


def progress(value: Any) -> tuple[float | None, str | None]:
    """Whatever a handler has reported: which part is done, if it says so, and in words."""
    match value:
        case None:
            return None, None
        case {"done": bool(), **_rest} | {"total": bool(), **_rest}:
            pass
        case {"done": int() | float() as done, "total": int() | float() as total} if total > 0:
            return min(1.0, max(0.0, done / total)), f"{done:,} of {total:,}"
        case bool():
            pass
        case int() | float() if 0 <= value <= 1:
            return float(value), f"{value:.0%}"
        case int() | float() if 1 < value <= 100:
            return value / 100, f"{value:g} %"
        case str():
            return None, short(value)
    return None, short(json.encode(value).decode())


def short(text: str) -> str:
    return text if len(text) <= PROGRESS_CHARACTERS else f"{text[: PROGRESS_CHARACTERS - 1]}…"


def plural(number: int, one: str, many: str) -> str:
    return f"{count(number)} {one if number == 1 else many}"


def cause(error: Mapping[str, Any] | None) -> str:
    """An error in a line."""
    return ": ".join(str(error[name]) for name in ("type", "message") if error.get(name)) if error else ""
