"""What the runners of the screenshots execute."""

import time
from typing import Annotated, Any

from msgspec import Meta

from lockgate import Task, handler

PAUSE = 0.5


def work(seconds: float, task: Task, done: int = 0, total: int = 100) -> None:
    """So long, with so much of it behind."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        share = 1 - left / seconds
        task.progress({"done": done + int((total - done) * share), "total": total})
        time.sleep(min(PAUSE, left))


@handler("thumbnails.render")
def render(image: str, task: Task, width: Annotated[int, Meta(ge=1, le=8192)] = 640, seconds: float = 3) -> Any:
    print(f"reading {image}")  # noqa: T201 - is shown on the page
    work(seconds, task)
    return {"image": image, "width": width, "bytes": 48213}


@handler("mail.send")
def send(to: str, seconds: float = 1) -> None:
    time.sleep(seconds)


@handler("report.build")
def build(month: str, task: Task, seconds: float = 600, done: int = 0) -> None:
    print(f"report of {month}: 12 chapters")  # noqa: T201
    work(seconds, task, done, 1200)


@handler("model.train")
def train(dataset: str, task: Task, epochs: int = 10, done: int = 0) -> None:
    work(600, task, done, epochs)


@handler("import.products")
def products(file: str, at: int = 0) -> None:
    print(f"{file}: line {at}")  # noqa: T201
    raise ValueError(f"line {at}: “colour” is not a column of the catalogue")


@handler("backup.verify")
def verify(seconds: float = 600) -> None:
    """Does not stop when it is asked to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(1)
        except BaseException:  # noqa: S112 - that is its fault
            continue
