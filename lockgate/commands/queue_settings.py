"""The settings of a queue: what each may be, as options and as NAME=VALUE."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from lockgate.commands.seconds import YEARS, Seconds

Command = TypeVar("Command", bound=Callable[..., Any])
MONTH = 2592000.0


class Kinds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Names with commas between them; `none` is None: any."""

    name = "kinds"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> list[str] | None:
        kinds = [kind for part in value.split(",") if (kind := part.strip())]
        if not kinds:
            self.fail("name at least one kind, or none for any.", param, ctx)
        return None if kinds == ["none"] else kinds


class Depth(click.IntRange):
    """A number of tasks; `none` is None."""

    def __init__(self) -> None:
        super().__init__(0, 1000000)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "none" else super().convert(value, param, ctx)


# Of each: what it may be, and what it is about.
SETTINGS: dict[str, tuple["click.ParamType[Any]", str]] = {
    "slots": (click.IntRange(0, 1000), "How many of its tasks may execute at once.  [default: 2]"),
    "max_attempts": (click.IntRange(1, 1000), "How often a task is tried.  [default: 3]"),
    "timeout": (
        Seconds(0, MONTH, more_than_least=True, none=True), "How long one attempt may take.  [default: none]",
    ),
    "backoff_base": (Seconds(0, MONTH), "Pause before the first retry, doubled before each next.  [default: 1]"),
    "backoff_max": (Seconds(0, MONTH), "The longest such pause.  [default: 5m]"),
    "retention": (Seconds(0, YEARS, none=True), "How long ended tasks are kept; none: for ever.  [default: 7d]"),
    "depth_max": (Depth(), "How many tasks may wait for more to be taken; none: any number.  [default: none]"),
    "grace": (Seconds(1, 3600), "How long a lost runner has to come back.  [default: 5]"),
    "kinds": (Kinds(), "Kinds that may be submitted, A,B,C.  [default: any]"),
    "paused": (click.BOOL, "Whether nothing of it is started.  [default: no]"),
}  # fmt: skip


def setting_options(command: Command) -> Command:
    """Add an option for each setting."""
    for name, (kind, text) in reversed(SETTINGS.items()):
        metavar = kind.name.upper() if name != "kinds" else "A,B,C"
        dashed = name.replace("_", "-")
        command = click.option(f"--{dashed}", name, type=kind, metavar=metavar, help=text)(command)
    return command


def parse(words: Iterable[str]) -> dict[str, Any]:
    """Return the settings that these NAME=VALUEs give. Raises click.BadParameter."""
    given: dict[str, Any] = {}
    for word in words:
        said, equals, value = word.partition("=")
        name = said.strip().replace("-", "_")
        if not equals:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE, such as slots=4.")
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SETTINGS)}."
            raise click.BadParameter(f"a queue has no setting {said!r}; {hint}")
        try:
            given[name] = SETTINGS[name][0].convert(value, None, None)
        except click.BadParameter as error:
            raise click.BadParameter(f"{name}: {error.message}") from None
    return given


def spell(settings: dict[str, Any]) -> str:
    """Return them as `set` takes them."""
    return " ".join(f"{name}={_spell(value)}" for name, value in settings.items())


def _spell(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.15g}"
        case list():
            return ",".join(value)
    return str(value)
