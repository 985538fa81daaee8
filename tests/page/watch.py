"""What no page of ours may do: ask elsewhere, break its own policy, fail."""

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, WebError

# Chromium says it on the console as well, but not always as an error.
VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`against the policy: ${event.violatedDirective}, ${event.blockedURI} ${event.sample}`));
"""

CUT_OFF = r"net::ERR_(CONNECTION_|SOCKET_NOT_CONNECTED|EMPTY_RESPONSE|INCOMPLETE_CHUNKED_ENCODING)"
"""What the browser says when a server goes away, depending on where it was with its request."""


class Watch:
    """Looks at everything in some browser contexts. `allowed`: texts of errors that a test brings about itself."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._origins: set[str] = set()
        self._allowed: list[str] = []

    def over(self, context: BrowserContext, url: str) -> None:
        """`url`: the only origin that may be asked."""
        self._origins.add(urlsplit(url).netloc)
        context.add_init_script(VIOLATIONS)
        context.on("request", self._asked)
        context.on("console", self._said)
        context.on("weberror", self._failed)

    def allow(self, pattern: str) -> None:
        self._allowed.append(pattern)

    def verdict(self) -> list[str]:
        """What there was, but for what is allowed."""
        return [one for one in self.found if not any(re.search(pattern, one) for pattern in self._allowed)]

    def _asked(self, request: Request) -> None:
        where = urlsplit(request.url)
        if where.scheme not in ("data", "blob") and where.netloc not in self._origins:
            self.found.append(f"asked elsewhere: {request.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _failed(self, error: WebError) -> None:
        self.found.append(f"failed: {error.error}")
