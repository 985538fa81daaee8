"""The environment variables that are settings, so that a misspelt one is refused instead of silently ignored."""

import difflib
from collections.abc import Mapping
from importlib import import_module

PREFIX = "LOCKGATE_"

# Of this command, which does not hand them on to the programs it starts.
OURS = frozenset(
    {
        "LOCKGATE_DATA",
        "LOCKGATE_DEMO_MAX",
        "LOCKGATE_DEMO_MIN",
        "LOCKGATE_DEMO_TASKS",
        "LOCKGATE_LOGIN_PASSWORD",
        "LOCKGATE_LOGIN_PASSWORD_FILE",
        "LOCKGATE_LOGIN_PREFIX",
        "LOCKGATE_RUNNERS",
        "LOCKGATE_SLOTS",
        "LOCKGATE_SPARE",
    }
)
# Read by runners, their executors and the programs that speak to RabbitMQ, and no option of any command.
OTHERS = frozenset(
    {
        "LOCKGATE_ACTIVATION",
        "LOCKGATE_AMQP_URL_FILE",
        "LOCKGATE_HANDLERS",
        "LOCKGATE_LIFELINE",
        "LOCKGATE_RUNNER_NAME",
        "LOCKGATE_WITNESS",
    }
)
# The light one first: a supervisor lives for long, and need not have a web server in its memory.
PROGRAMS = (
    "lockgate.local.run:run",
    "lockgate_service.__main__:main",
    "lockgate_service.amqp.intake.__main__:main",
    "lockgate_service.amqp.publish.__main__:main",
)


def complaint(environment: Mapping[str, str]) -> str | None:
    """Return what is wrong with the names of these variables, in one line; None if nothing is."""
    known = OURS | OTHERS
    unknown = {name for name in environment if name.startswith(PREFIX)} - known
    for program in PROGRAMS:
        if unknown:  # else spare the import
            module, command = program.split(":")
            known |= {str(option.envvar) for option in getattr(import_module(module), command).params}
            unknown -= known
    if not unknown:
        return None
    near = difflib.get_close_matches(min(unknown), known, n=1)
    return f"{', '.join(sorted(unknown))}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
