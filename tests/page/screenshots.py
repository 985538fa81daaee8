"""``python -m tests.page.screenshots``: the pictures in docs/screenshots, of a system that lives meanwhile."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from lockgate_service.auth.keys import SCOPES, Scope
from playwright.sync_api import Browser, Page, expect

from tests import server
from tests.contract import Contract, until
from tests.database import template
from tests.page import chromium
from tests.page.conftest import Site, served
from tests.page.seen import drawer, live, sign_in
from tests.runner.process import RunnerProcess
from tests.service.api_keys import make_key

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
BYTES_MAX = 200_000
WIDE = {"viewport": {"width": 1280, "height": 1360}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}

# An hour of work that is over, more of it in its middle.
PAST = """
insert into lockgate.task (queue, kind, status, create_time, run_at, start_time, finish_time, exec_time, attempt,
  max_attempts, turn, lease, runner, session, grace, payload, result, error)
select %s, %s, %s::lockgate.status, now() - %s * interval '1 s', now() - %s * interval '1 s',
  now() - (%s - 2) * interval '1 s', now() - (%s - 2 - %s) * interval '1 s', %s, 1, 3,
  lockgate.first_turn(1) + lease, lease, 'worker-2', 1, 5, '{}', null,
  case when %s = 'failed' then '{"type": "TimeoutError", "message": "the mail server did not answer"}'::jsonb end
from nextval('lockgate.lease') lease
"""
DEPTH = "update lockgate.stats_minute set queued = (14 + 12 * sin(extract(epoch from minute) / 900))::int"


def hour(site: Site, failing: float = 0.0) -> None:
    """What has happened before; so much of the mail failed."""
    some = random.Random(3)
    ago = 3500.0
    connection = site.db.connect("admin")
    while ago > 30:
        kind, queue = some.choice([("thumbnails.render", "media"), ("mail.send", "mail"), ("mail.send", "mail")])
        wrong = kind == "mail.send" and some.random() < failing
        status = "failed" if wrong else "cancelled" if some.random() < 0.01 else "succeeded"
        took = some.uniform(0.3, 1.2) if kind == "mail.send" else some.uniform(1, 6)
        connection.execute(PAST, (queue, kind, status, ago + 2, ago + 1, ago, ago, took, took, status))
        ago -= some.expovariate(0.12 + 0.22 * math.sin(math.pi * ago / 3600) ** 2)
    while connection.execute("select lockgate.roll_up(100000)").fetchone() != (0,):
        pass
    connection.execute(DEPTH)
    connection.close()  # and with it goes the lock for chores


def worker(site: Site, stack: ExitStack, number: int, **settings: Any) -> RunnerProcess:
    process = RunnerProcess(site.db.runner, runner_name=f"worker-{number}", handlers="tests.page.demo", **settings)
    stack.callback(process.close)
    return process


def running(site: Site, number: int) -> Callable[[], bool]:
    return lambda: len(site.q.tasks("status = 'running'")) >= number


def busy(site: Site, stack: ExitStack) -> dict[str, int]:
    """Two of two are busy, and runners stand by."""
    site.q.queue("media", slots=6)
    site.q.queue("mail", slots=3)
    site.q.queue("gpu", slots=1)
    hour(site)
    for number in (1, 2):
        worker(site, stack, number, concurrency=4, queues="media mail")
    for number in (3, 4, 5, 6):
        worker(site, stack, number, queues="default")
    worker(site, stack, 7, queues="gpu")
    for month, done in (("March", 790), ("April", 312)):
        site.q.submit("report.build", payload={"month": month, "done": done, "seconds": 900}, tags=["monthly"])
    for month in ("May", "June", "July"):
        site.q.submit("report.build", payload={"month": month}, tags=["monthly"])
    for number in range(5):
        payload = {"image": f"catalogue/{4711 + number}.tif", "width": 1280, "seconds": 90 + 20 * number}
        site.q.submit("thumbnails.render", "media", payload=payload, tags=["catalogue"])
    for number in range(3):
        site.q.submit("mail.send", "mail", payload={"to": f"customer-{number}@example.org", "seconds": 240 + number})
    site.q.submit("model.train", "gpu", payload={"dataset": "catalogue-2026", "epochs": 40, "done": 17})
    site.q.row("scheduled", kind="report.build", payload={"month": "August"})
    until(running(site, 11), "eleven tasks to run", 120)
    return {"task": site.q.tasks("kind = 'report.build' and status = 'running'")[0].id}


def empty(site: Site, stack: ExitStack) -> dict[str, int]:
    """As it is on the first day."""
    worker(site, stack, 1)
    until(lambda: site.db.query("select from lockgate.runner"), "the runner")
    return {}


def trouble(site: Site, stack: ExitStack) -> dict[str, int]:
    """A runner is gone, one does not stop, a queue is paused, and an import fails again and again."""
    site.q.queue("media", slots=4, grace=600)
    site.q.queue("mail", slots=3)
    site.q.queue("billing", slots=2)
    hour(site, 0.04)
    gone = worker(site, stack, 1, concurrency=2, queues="media")
    for number in range(2):
        payload = {"image": f"catalogue/{4711 + number}.tif", "seconds": 3600}
        site.q.submit("thumbnails.render", "media", payload=payload)
    until(running(site, 2), "two tasks to run")
    worker(site, stack, 2, concurrency=2, queues="media default", kill_after=600)
    worker(site, stack, 3, concurrency=2, queues="default", kill_after=600)
    stubborn = site.q.submit("backup.verify", payload={"seconds": 3600})
    failed = [
        site.q.submit("import.products", payload={"file": "spring.csv", "at": 118}, max_attempts=1 + (number == 41))
        for number in range(42)
    ]
    for number in range(17):
        site.q.submit("mail.send", "mail", payload={"to": f"customer-{number}@example.org"})
    site.q.submit("invoice.print", "billing", payload={"number": 2026117})
    site.db.query("select lockgate.pause('mail')")
    until(lambda: site.q.task(stubborn).status == "running", "the backup")
    site.q.cancel(stubborn)
    until(lambda: site.q.task(failed[-1]).status == "failed", "the imports to fail", 120)
    gone.kill()
    slot = "select from lockgate.slot_detail where status = 'abandoned'"
    until(lambda: site.db.query(slot), "the slot to be seen as abandoned")
    return {"task": failed[-1]}


STATES = {"busy": busy, "empty": empty, "trouble": trouble}


@contextmanager
def world() -> Iterator[Callable[[ExitStack, bool], Site]]:
    """Makes systems with nothing in them, with keys or without."""
    with ExitStack() as stack:
        made = stack.enter_context(template(stack.enter_context(server.embedded())))

        def begin(inner: ExitStack, with_keys: bool) -> Site:
            db = inner.enter_context(made.clone())
            keys: dict[Scope, str] = {scope: make_key(db, scope, scope) for scope in SCOPES} if with_keys else {}
            return served(Contract(db), inner, keys, **({"published": "0.0.0.0:8000"} if with_keys else {}))

        yield begin


def shot(page: Page, name: str, whole: bool = False) -> None:
    page.mouse.move(0, 0)
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path, full_page=whole, animations="disabled", caret="hide")
    size = path.stat().st_size
    click.echo(f"{path.name}: {size / 1000:.0f} KB")
    if size > BYTES_MAX:
        raise SystemExit(f"{path.name} is larger than {BYTES_MAX / 1000:.0f} KB")


@contextmanager
def looking(browser: Browser, url: str, dark: bool = False, phone: bool = False) -> Iterator[Page]:
    context = browser.new_context(color_scheme="dark" if dark else "light", **(PHONE if phone else WIDE))
    try:
        page = context.new_page()
        page.goto(url)
        yield page
    finally:
        context.close()


def pictures(browser: Browser, site: Site, name: str, seen: dict[str, int]) -> None:
    for look, options in {"light": {}, "dark": {"dark": True}, "phone": {"phone": True}}.items():
        with looking(browser, site.url, **options) as page:
            live(page)
            if name == "trouble":
                for text in ("was asked to stop", "the mail server did not answer"):
                    expect(page.get_by_role("region", name="Needs attention")).to_contain_text(text)
            shot(page, f"{name}-{look}")
    if task := seen.get("task"):
        with looking(browser, f"{site.url}/?task={task}", dark=name == "trouble") as page:
            live(page)
            expect(drawer(page, task)).to_be_visible()
            shot(page, f"{name}-task")


@click.command()
@click.option("--only", type=click.Choice([*STATES, "sign-in"]), help="Of one state.")
def main(only: str | None) -> None:
    """Take the pictures of docs/screenshots anew."""
    expect.set_options(timeout=60_000)
    FOLDER.mkdir(exist_ok=True)
    with world() as begin, chromium.started() as browser:
        for name, state in STATES.items():
            if only in (None, name):
                with ExitStack() as stack:
                    site = begin(stack, False)
                    pictures(browser, site, name, state(site, stack))
        if only in (None, "sign-in"):
            with ExitStack() as stack, looking(browser, begin(stack, True).url) as page:
                sign_in(page, "lockgate_nonsense")
                expect(page.get_by_role("alert")).to_be_visible()
                page.set_viewport_size({"width": 720, "height": 480})
                shot(page, "sign-in")


if __name__ == "__main__":
    main()
