"""A key of the API: `lockgate_`, an id of 12 letters and digits, `_`, a secret of 43.

The secret has 256 random bits, so nobody finds it from its SHA-256 by trying: a slow hash, made for passwords, would
only slow down every request.
"""

import hashlib
import re
import secrets
import string

from msgspec import Struct

ID_LENGTH = 12
SECRET_LENGTH = 43  # of 62 letters and digits: 256 bits
_LOWER = string.ascii_lowercase + string.digits
_ALL = string.ascii_letters + string.digits
_KEY = re.compile(rf"lockgate_([a-z0-9]{{{ID_LENGTH}}})_[A-Za-z0-9]{{{SECRET_LENGTH}}}")
_BEARER = re.compile("bearer +([^ ]+) *", re.IGNORECASE)


class Shown(Struct, frozen=True):
    """What somebody has who has a key: which it is, and its digest."""

    id: str
    digest: bytes


def make() -> tuple[Shown, str]:
    """A new key; the text is what its user gets, and is kept nowhere."""
    name = "".join(secrets.choice(_LOWER) for _ in range(ID_LENGTH))
    text = f"lockgate_{name}_{''.join(secrets.choice(_ALL) for _ in range(SECRET_LENGTH))}"
    return Shown(name, hashlib.sha256(text.encode()).digest()), text


def in_authorization(header: str) -> str:
    """What a header Authorization has in place of a key; empty if it is of another form."""
    found = _BEARER.fullmatch(header)
    return found[1] if found else ""


def shown(text: str) -> Shown | None:
    """None if that is nothing like a key."""
    found = _KEY.fullmatch(text)
    return Shown(found[1], hashlib.sha256(text.encode()).digest()) if found else None
