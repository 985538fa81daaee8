"""The header Prefer (RFC 7240): how long an answer may wait for the end of a task."""

import re

HEADER = "Prefer"
SECONDS_MAX = 60
DESCRIPTION = (
    f"`wait=N`: answer when the task has ended, or after N seconds ({SECONDS_MAX} at most) as it is then. What else it "
    "says is ignored."
)
_WAIT = re.compile(r'wait\s*=\s*"?(\d+)"?', re.IGNORECASE)


def wait_seconds(header: str | None) -> int | None:
    """None if it asks for no wait that we understand, which RFC 7240 wants ignored."""
    for preference in (header or "").split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return min(int(found[1][:9]), SECONDS_MAX)
    return None


def applied(seconds: int) -> dict[str, str]:
    """The header that says so."""
    return {"Preference-Applied": f"wait={seconds}"}
