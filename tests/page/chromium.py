"""Debian's Chromium, driven by Playwright: where it is, and how it is started."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

HOST = "lockgate.example"
"""A name that leads to this machine, and is to the browser like any other site that is not https."""

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    # Nothing gets out, whatever a page asks for.
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


class NotHere(Exception):
    """There is no Chromium."""


def executable() -> str:
    """Its path: CHROMIUM, or where it is found. Raises NotHere."""
    if path := os.environ.get("CHROMIUM") or shutil.which("chromium"):
        return path
    raise NotHere("there is no Chromium: install Debian's package chromium, or name one in CHROMIUM")


@contextmanager
def started() -> Iterator[Browser]:
    """While it is there, this thread can run no event loop of its own. Raises NotHere."""
    path = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
