"""The cookie in which a browser that has signed in brings its key: no program reads it, and no other site sends it."""

NAME = "lockgate_key"


def key_in(header: str | None) -> str | None:
    """What a request's header Cookie has for us. Of several, the first is that of the longest path, so of ours."""
    for one in (header or "").split(";"):
        name, _, value = one.strip().partition("=")
        if name == NAME:
            return value
    return None


def given(key: str, root: str, secure: bool) -> str:
    """A header Set-Cookie with a key that is one, good until the browser is closed. `secure`: for https only."""
    return _cookie(key, root, secure)


def taken(root: str, secure: bool) -> str:
    """A header Set-Cookie that takes it away."""
    return f"{_cookie('', root, secure)}; Max-Age=0"


def _cookie(value: str, root: str, secure: bool) -> str:
    return f"{NAME}={value}; Path={root or '/'}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
