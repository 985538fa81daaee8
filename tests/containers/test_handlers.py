"""Handlers of a user's own, as the README shows them: mounted, and built into an image."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.compose import Compose, docker
from tests.docs.markdown import blocks

FILES = {
    re.match(r"# ([\w.]+)\n", block.text)[1]: block.text  # type: ignore[index]
    for language in ("python", "yaml", "dockerfile")
    for block in blocks("README.md", language)
}
"""What the README shows, by the names it gives them."""


@pytest.fixture
def readme(compose: Compose) -> Iterator[Compose]:
    """The README's files lie beside compose.yaml; afterwards the runners are what they were."""
    for name, text in FILES.items():
        (compose.checkout / name).write_text(text)
    before = list(compose.files)
    yield compose
    compose.files[:] = before  # and the next test that wants runners gets those


def thumbnail(compose: Compose) -> str:
    """Starts the runners anew, and has the README's handler make something."""
    compose.scale(1)
    with compose.http as http:
        task = http.post("/tasks", json={"kind": "thumbnail", "payload": {"path": "cat.jpg"}}).json()["id"]
    compose.until_ended("default")
    return str(compose.task(task)["result"])


def test_mounted_handlers_are_served(readme: Compose) -> None:
    readme.files.append("compose.override.yaml")
    assert thumbnail(readme) == "cat.jpg-200.jpg"


def test_handlers_built_into_an_image_are_served_with_what_they_need(readme: Compose) -> None:
    folder = Path(readme.checkout)
    image = f"{readme.image}-work"
    dockerfile = FILES["work.dockerfile"].replace("FROM lockgate", f"FROM {readme.image}")
    (folder / "work.dockerfile").write_text(dockerfile)
    # The context is a folder of the user's: without our .dockerignore, which leaves out what is not ours.
    mine = folder / "mine"
    mine.mkdir()
    for name in ("work.py", "work.dockerfile"):
        (mine / name).write_text((folder / name).read_text())
    docker("build", "--quiet", "--tag", image, "--file", str(mine / "work.dockerfile"), str(mine))
    try:
        (folder / "image.yaml").write_text(
            f"services: {{runner: {{image: {image}, environment: {{LOCKGATE_HANDLERS: work}}}}}}\n"
        )
        readme.files.append("image.yaml")
        assert thumbnail(readme) == "cat.jpg-200.jpg"
        assert (
            docker("run", "--rm", "--entrypoint=python", image, "-c", "import PIL, os; print(os.getuid())") == "10001\n"
        )
    finally:
        docker("image", "rm", "--force", image, check=False)
