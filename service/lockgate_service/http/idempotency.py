"""The header Idempotency-Key."""

import re

from lockgate_service.http.problems import invalid

HEADER = "Idempotency-Key"
LENGTH_MAX = 200
_FIRST, _BARE = "[!#-~]", "[!-~]"
_QUOTED = r'([ !#-\[\]-~]|\\["\\])'
_KEY = re.compile(f'{_FIRST}{_BARE}*|"{_QUOTED}+"')


def pattern(length: int) -> str:
    """What `idempotency_key` takes, for the documentation, of a key of so many characters at most."""
    return f'^({_FIRST}{_BARE}{{0,{length - 1}}}|"{_QUOTED}{{1,{length}}}")$'


def idempotency_key(header: str | None) -> str | None:
    """The key in it: a string in quotes as the IETF's draft has it, or the same key bare. Raises Refusal (400)."""
    if header is None:
        return None
    if not _KEY.fullmatch(header):
        raise invalid(HEADER, "must be visible ASCII characters, or a string of them in double quotes")
    key = re.sub(r"\\(.)", r"\1", header[1:-1]) if header.startswith('"') else header
    if len(key) > LENGTH_MAX:
        raise invalid(HEADER, f"must have at most {LENGTH_MAX} characters")
    return key
