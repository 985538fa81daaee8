"""Durations, as people type and read them; in seconds everywhere else."""

import re

import click

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PATTERN = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|[smhd])?")
YEARS = 315360000.0  # ten of them, the longest duration anything here may have


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A number of seconds, or one with a unit: 90, 1.5s, 15m, 2h, 7d. Where `none` may be said, that is None."""

    name = "duration"

    def __init__(self, least: float, most: float, more_than_least: bool = False, none: bool = False) -> None:
        self._least = least
        self._most = most
        self._more = more_than_least
        self._none = none

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        text = str(value).strip().lower()
        if self._none and text == "none":
            return None
        found = PATTERN.fullmatch(text)
        if not found:
            also = ", or none" if self._none else ""
            self.fail(f"{value!r} is no duration: give seconds, or such as 90s, 15m, 2h, 7d{also}.", param, ctx)
        seconds = float(found[1]) * UNITS[found[2] or "s"]
        if not self._least <= seconds <= self._most or (self._more and seconds == self._least):
            least = f"more than {self._least:g}" if self._more else f"{self._least:g}"
            self.fail(f"{value} is not in the range from {least} to {self._most:.0f} seconds.", param, ctx)
        return seconds


def spoken(seconds: float | None) -> str:
    """Return it short: 0.4 s, 12 s, 3 min, 2 h, 5 d; nothing for None."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for limit, length, unit in ((100, 1, "s"), (5970, 60, "min"), (48 * 3600, 3600, "h")):
        if round(seconds) < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
