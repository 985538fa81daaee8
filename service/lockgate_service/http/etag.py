"""ETags: of what an answer says, so that nobody has to keep a version of it."""

from hashlib import blake2b


def etag(body: bytes) -> str:
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


def is_known(header: str | None, tag: str) -> bool:
    """Whether the header If-None-Match has this one."""
    given = [one.strip().removeprefix("W/") for one in (header or "").split(",")]
    return tag in given or given == ["*"]
