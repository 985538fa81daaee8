"""The header Idempotency-Key."""

import re

from service.problem import invalid

HEADER = "Idempotency-Key"
LENGTH_MAX = 200
_BARE = re.compile(r"[\x21-\x7e]+")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')


def idempotency_key(header: str | None) -> str | None:
    """The key in it: a string in quotes as the IETF's draft has it, or the same key bare. Raises Refusal (400)."""
    if header is None:
        return None
    if quoted := _QUOTED.fullmatch(header):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _BARE.fullmatch(header) and not header.startswith('"'):
        key = header
    else:
        raise invalid(HEADER, "must be visible ASCII characters, or a string of them in double quotes")
    if len(key) > LENGTH_MAX:
        raise invalid(HEADER, f"must have at most {LENGTH_MAX} characters")
    return key
