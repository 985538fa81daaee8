"""The environment variables that are settings, so that a misspelt one is refused instead of silently ignored."""

import difflib
from collections.abc import Mapping

PREFIX = "LOCKGATE_"

# Of this command: `up`, `demo` and `migrate`, which do not hand them on to the programs they start.
OURS = frozenset(
    {
        "LOCKGATE_DATA",
        "LOCKGATE_RUNNERS",
        "LOCKGATE_SLOTS",
        "LOCKGATE_LOGIN_PASSWORD",
        "LOCKGATE_LOGIN_PREFIX",
    }
)
# Of the service and the runner; a test compares them with the options of their commands.
SERVICE = frozenset({"LOCKGATE_HOST", "LOCKGATE_PORT", "LOCKGATE_LISTEN_URL"})
RUNNER = frozenset({"LOCKGATE_QUEUES", "LOCKGATE_CONCURRENCY", "LOCKGATE_WITNESS", "LOCKGATE_RUNNER_NAME"})
KNOWN = OURS | SERVICE | RUNNER


def complaint(environment: Mapping[str, str]) -> str | None:
    """Return what is wrong with the names of these variables, in one line; None if nothing is."""
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in KNOWN)
    if not unknown:
        return None
    near = difflib.get_close_matches(unknown[0], KNOWN, n=1)
    return f"{', '.join(unknown)}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
