"""Large, long and strange things look right, and everybody can use the page."""

import json

import pytest
from playwright.sync_api import Page, expect

from tests.contract import until
from tests.page.axe import barriers
from tests.page.conftest import Look, Site
from tests.page.seen import band, drawer, live, row, sign_in, tasks
from tests.page.watch import Watch
from tests.service.conftest import RunnerStart


def is_within(page: Page) -> bool:
    """Whether nothing sticks out at the side, so that one would have to scroll."""
    return bool(page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"phone": True},
}


@pytest.fixture
def busy(site: Site, runners: RunnerStart) -> tuple[Site, int, int]:
    """Something of everything: a running task and a failed one."""
    runners(concurrency=2)
    for _ in range(3):
        site.q.submit("nap", payload={"seconds": 600}, tags=["nightly"])
    site.q.queue("gpu", slots=1, paused=True)
    site.q.submit("render", "gpu")
    failed = site.q.submit("boom", max_attempts=1)
    site.q.change(failed, priority=50)
    site.q.row("cancelled")
    site.q.row("scheduled")
    until(lambda: len(site.q.tasks("status = 'running'")) == 2, "two tasks to run")
    return site, site.q.tasks("status = 'running'")[0].id, site.q.row("failed")


@pytest.mark.parametrize("options", LOOKS.values(), ids=LOOKS)
def test_axe_finds_nothing_serious(busy: tuple[Site, int, int], look: Look, options: dict[str, object]) -> None:
    site, running, failed = busy
    page = look(site.url, **options)
    live(page)
    expect(row(page, running)).to_contain_text("running")
    assert barriers(page) == []
    assert is_within(page)
    for number in (running, failed):
        page.goto(f"{site.url}/?task={number}")
        live(page)
        expect(drawer(page, number)).to_be_visible()
        assert barriers(page) == []
        assert is_within(page)
    drawer(page, failed).get_by_role("button", name=f"Delete task {failed}").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert barriers(page) == []
    page.get_by_role("dialog").get_by_role("button", name="Keep").click()
    page.goto(f"{site.url}/")
    live(page)
    tasks(page).get_by_label(f"Select task {failed}").check()
    assert barriers(page) == []
    page.get_by_role("button", name="New task").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert barriers(page) == []


@pytest.mark.parametrize("options", LOOKS.values(), ids=LOOKS)
def test_axe_finds_nothing_serious_where_one_signs_in(
    guarded: Site, look: Look, watch: Watch, options: dict[str, object]
) -> None:
    watch.allow("status of 401")
    page = look(guarded.url, **options)
    assert barriers(page) == []
    sign_in(page, "lockgate_nonsense")
    expect(page.get_by_role("alert")).to_be_visible()
    assert barriers(page) == []
    assert is_within(page)


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_long_and_strange_texts_look_right(site: Site, look: Look, phone: bool) -> None:
    word = "x" * 300
    message = "Ошибка 任務失敗 \u202eright to left\u202c <b>bold</b> & 'quoted' " * 40 + word
    error = {"type": "ValueError", "message": message, "traceback": f"Traceback:\n  File {word}\n" * 50}
    payload = {"имя": "Ж", "名前": "任務", "ﷺ": "🚀", "html": "<script>alert(1)</script>", "long": word * 20}
    number = site.q.row("failed", kind="k" * 200, payload=payload, error=error, tags=["т" * 100], runner="r" * 200)
    page = look(f"{site.url}/?task={number}", phone=phone)
    live(page)
    for text in ('"имя": "Ж"', '"名前": "任務"', "🚀", "<script>alert(1)</script>", "任務失敗"):
        expect(drawer(page, number)).to_contain_text(text)
    assert is_within(page)
    page.goto(site.url)
    live(page)
    expect(row(page, number)).to_contain_text("Ошибка")
    assert is_within(page)


def test_big_integers_are_shown_as_they_are(site: Site, look: Look, runners: RunnerStart) -> None:
    big = 2**53 + 1
    number = site.http.post("/tasks", json={"kind": "echo", "payload": {"n": big, "huge": 10**40}}).json()["id"]
    page = look(f"{site.url}/?task={number}")
    live(page)
    expect(drawer(page, number)).to_contain_text(f'"n": {big}')
    runners()
    expect(row(page, number)).to_contain_text("succeeded")
    expect(drawer(page, number)).to_contain_text("Result")
    shown = drawer(page, number).locator("pre").all_inner_texts()
    assert [str(big) in text for text in shown if "huge" in text] == [True, True]
    assert all(str(10**40) in text for text in shown if "huge" in text)


def test_a_hundred_thousand_failed_tasks_are_one_line_and_fifty_rows(site: Site, look: Look) -> None:
    site.fail(100_000)
    page = look(f"{site.url}/?status=failed")
    live(page)
    expect(tasks(page).get_by_role("row")).to_have_count(51)
    tasks(page).get_by_role("link", name="Older").click()
    expect(tasks(page).get_by_role("link", name="Newer")).to_be_visible()
    expect(tasks(page).get_by_role("row")).to_have_count(51)
    tasks(page).get_by_label("Select all tasks on this page").check()
    page.get_by_role("button", name="Select all that match the filter").click()
    expect(page.get_by_role("button", name="Retry 100,000", exact=True)).to_be_enabled(timeout=120_000)
    assert is_within(page)


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_two_hundred_slots_are_seen_at_a_glance(site: Site, look: Look, runners: RunnerStart, phone: bool) -> None:
    runners(concurrency=3)
    site.q.set_slots(200)
    for _ in range(5):
        site.q.submit("nap", payload={"seconds": 600})
    page = look(site.url, phone=phone)
    live(page)
    expect(band(page)).to_contain_text("3 of 200 executing")
    expect(band(page).get_by_role("list").first.get_by_role("listitem")).to_have_count(200)
    height = page.evaluate("() => document.querySelector('#slots').getBoundingClientRect().height")
    assert height < 1200
    assert is_within(page)


def test_a_payload_of_a_megabyte_does_not_hold_the_page_up(site: Site, look: Look) -> None:
    payload = {"lines": ["a line of text that is of no interest"] * 20_000}
    assert len(json.dumps(payload)) > 800_000
    number = site.q.submit("large", payload=payload)
    page = look(f"{site.url}/?task={number}")
    live(page)
    expect(drawer(page, number)).to_contain_text("a line of text")
