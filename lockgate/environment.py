"""The environment variables that are settings, so that a misspelt one is refused instead of silently ignored."""

import difflib
from collections.abc import Mapping

PREFIX = "LOCKGATE_"

# Of this command, which does not hand them on to the programs it starts.
OURS = frozenset(
    {
        "LOCKGATE_DATA",
        "LOCKGATE_DEMO_MAX",
        "LOCKGATE_DEMO_MIN",
        "LOCKGATE_DEMO_TASKS",
        "LOCKGATE_LOGIN_PASSWORD",
        "LOCKGATE_LOGIN_PREFIX",
        "LOCKGATE_RUNNERS",
        "LOCKGATE_SLOTS",
    }
)
# Of the service and the runner; a test compares them with the options of their commands.
PROGRAMS = frozenset(
    {
        "LOCKGATE_ASK_LIMIT",
        "LOCKGATE_CONCURRENCY",
        "LOCKGATE_HOST",
        "LOCKGATE_INHERIT",
        "LOCKGATE_LOG_FORMAT",
        "LOCKGATE_LOG_LEVEL",
        "LOCKGATE_POLL",
        "LOCKGATE_POOL_SIZE",
        "LOCKGATE_PORT",
        "LOCKGATE_QUEUES",
        "LOCKGATE_RUNNER_NAME",
        "LOCKGATE_STOP_LIMIT",
    }
)
# Read by the hands of a runner, and no option of any command.
HANDS = frozenset({"LOCKGATE_HANDLERS", "LOCKGATE_LIFELINE", "LOCKGATE_WITNESS"})
KNOWN = OURS | PROGRAMS | HANDS


def complaint(environment: Mapping[str, str]) -> str | None:
    """Return what is wrong with the names of these variables, in one line; None if nothing is."""
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in KNOWN)
    if not unknown:
        return None
    near = difflib.get_close_matches(unknown[0], KNOWN, n=1)
    return f"{', '.join(unknown)}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
