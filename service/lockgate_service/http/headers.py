"""Headers of requests and what answers them: Idempotency-Key, Prefer and ETag."""

import re
from hashlib import blake2b

from lockgate_service.http.problems import invalid

IDEMPOTENCY_KEY = "Idempotency-Key"
IDEMPOTENCY_KEY_MAX = 200
_FIRST, _BARE = "[!#-~]", "[!-~]"
_QUOTED = r'([ !#-\[\]-~]|\\["\\])'
_KEY = re.compile(f'{_FIRST}{_BARE}*|"{_QUOTED}+"')

PREFER = "Prefer"
WAIT_MAX = 60  # seconds
PREFER_DESCRIPTION = (
    f"`wait=N` (RFC 7240): answer when the task has ended, or after N seconds ({WAIT_MAX} at most) with the task as it "
    "is then. Other preferences are ignored."
)
_WAIT = re.compile(r'wait\s*=\s*"?(\d+)"?', re.IGNORECASE)


def idempotency_pattern(length: int) -> str:
    """The pattern of `idempotency_key` for the documentation, for a key of at most `length` characters."""
    return f'^({_FIRST}{_BARE}{{0,{length - 1}}}|"{_QUOTED}{{1,{length}}}")$'


def idempotency_key(header: str | None) -> str | None:
    """The key: a string in quotes as in the IETF's draft, or the same key bare. Raises Refusal (400)."""
    if header is None:
        return None
    if not _KEY.fullmatch(header):
        raise invalid(IDEMPOTENCY_KEY, "must be visible ASCII characters, or a string of them in double quotes")
    key = re.sub(r"\\(.)", r"\1", header[1:-1]) if header.startswith('"') else header
    if len(key) > IDEMPOTENCY_KEY_MAX:
        raise invalid(IDEMPOTENCY_KEY, f"must have at most {IDEMPOTENCY_KEY_MAX} characters")
    return key


def wait_seconds(header: str | None) -> int | None:
    """How long a request is ready to wait. None without a wait that we understand, as RFC 7240 demands."""
    for preference in (header or "").split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return min(int(found[1][:9]), WAIT_MAX)
    return None


def preference_applied(seconds: int) -> dict[str, str]:
    return {"Preference-Applied": f"wait={seconds}"}


def etag(body: bytes) -> str:
    """Of the body, so that nobody has to keep a version of it."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    given = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    return tag in given or given == ["*"]
