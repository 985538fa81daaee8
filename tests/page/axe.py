"""axe-core: what people with a keyboard, a screen reader or weak eyes would stumble over."""

from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Page

SOURCE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
SERIOUS = ("serious", "critical")


def barriers(page: Page) -> list[str]:
    """Those that are serious or critical, with the places where they are."""
    # Not by a script element: the policy of our pages forbids what is not a file of ours.
    page.evaluate(f"() => {{ {SOURCE} }}")
    found: dict[str, Any] = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{one['impact']}: {one['help']} at {node['target']}: {node.get('failureSummary', '')}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
