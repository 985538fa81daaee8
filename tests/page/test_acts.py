"""What is done on the page is done."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.contract import until
from tests.page.conftest import Look, Site
from tests.page.seen import band, drawer, live, row, tasks
from tests.page.watch import Watch
from tests.service.conftest import RunnerStart

HEAR = """() => {
  const node = document.querySelector("#said");
  window.heard = [];
  new MutationObserver(() => heard.push(node.textContent)).observe(node, { childList: true });
}"""
"""Keeps what is said, which a machine with much else to do may look for when it is gone again."""


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_slots_changed_on_the_page_take_effect(site: Site, look: Look, runners: RunnerStart) -> None:
    page = look(site.url)
    live(page)
    runners(concurrency=4)
    for _ in range(4):
        site.q.submit("nap", payload={"seconds": 600})
    expect(band(page)).to_contain_text("2 of 2 executing")
    more = band(page).get_by_role("button", name="One slot more for default")
    more.click()
    more.click()
    expect(band(page)).to_contain_text("4 of 4 executing")
    assert site.db.value("select count(*) from slot_overview where queue = 'default' and task is not null") == 4
    expect(band(page).get_by_role("list").first.get_by_role("listitem")).to_have_count(4)
    band(page).get_by_label("Slots of queue default").fill("3")
    band(page).get_by_label("Slots of queue default").press("Enter")
    expect(band(page)).to_contain_text("goes when this ends")
    assert site.db.value("select slots from queue where name = 'default'") == 3
    assert len(site.q.tasks("status = 'running'")) == 4  # nothing is killed


def test_to_take_all_slots_away_is_asked_about_first(site: Site, look: Look) -> None:
    page = look(site.url)
    live(page)
    slots = band(page).get_by_label("Slots of queue default")
    slots.fill("0")
    slots.press("Enter")
    dialog(page).get_by_role("button", name="Keep").click()
    expect(slots).to_have_value("2")
    slots.fill("0")
    slots.press("Enter")
    dialog(page).get_by_role("button", name="Take all slots away").click()
    expect(band(page)).to_contain_text("0 of 0 executing")
    assert site.db.value("select slots from queue where name = 'default'") == 0


def test_a_running_task_is_cancelled(site: Site, look: Look, runners: RunnerStart) -> None:
    runners()
    number = site.q.submit("nap", payload={"seconds": 600})
    page = look(site.url)
    expect(row(page, number)).to_contain_text("running")
    row(page, number).get_by_role("link").click()
    drawer(page, number).get_by_role("button", name=f"Cancel task {number}").click()
    expect(dialog(page)).to_contain_text("It is running, and will be asked to stop.")
    dialog(page).get_by_role("button", name=f"Cancel task {number}").click()
    expect(row(page, number)).to_contain_text("cancelled")
    expect(drawer(page, number).get_by_role("button", name=f"Retry task {number}")).to_be_visible()
    assert site.q.task(number).status == "cancelled"


def test_a_task_that_will_not_be_asked_is_killed(site: Site, look: Look, runners: RunnerStart) -> None:
    runners(kill_after=600)
    number = site.q.submit("stubborn", payload={"seconds": 600})
    page = look(f"{site.url}/?task={number}")
    expect(drawer(page, number)).to_contain_text("running")
    drawer(page, number).get_by_role("button", name=f"Cancel task {number}").click()
    dialog(page).get_by_role("button", name=f"Cancel task {number}").click()
    expect(row(page, number)).to_contain_text("asked to stop")
    stuck = page.get_by_role("region", name="Needs attention")
    expect(stuck).to_contain_text(f"Task {number} was asked to stop and still runs")
    drawer(page, number).get_by_role("button", name=f"Kill task {number}").click()
    dialog(page).get_by_role("button", name=f"Kill task {number}").click()
    expect(row(page, number)).to_contain_text("cancelled")


def test_all_that_match_a_filter_are_retried_and_as_many_as_was_said(site: Site, look: Look) -> None:
    site.fail(1234, "wrong")
    site.fail(20, "other")
    page = look(f"{site.url}/?status=failed&kind=wrong")
    live(page)
    tasks(page).get_by_label("Select all tasks on this page").check()
    expect(tasks(page)).to_contain_text("50 selected")
    page.get_by_role("button", name="Select all that match the filter").click()
    expect(tasks(page)).to_contain_text("All that match are selected")
    page.get_by_role("button", name="Retry 1,234", exact=True).click()
    expect(dialog(page)).to_contain_text("1,234 tasks will be in the queue again.")
    page.evaluate(HEAR)
    assert site.q.tasks("status = 'queued'") == []  # it was only counted
    dialog(page).get_by_role("button", name="Retry 1,234 tasks").click()
    until(lambda: "1,234 tasks in the queue again" in page.evaluate("() => window.heard"), "it to be said")
    expect(tasks(page)).to_contain_text("No task matches.")
    assert site.db.query("select kind, status::text, count(*) from task group by 1, 2 order by 1") == [
        ("other", "failed", 20),
        ("wrong", "queued", 1234),
    ]


def test_those_that_are_ticked_are_deleted_and_no_others(site: Site, look: Look) -> None:
    numbers = [site.q.row("succeeded") for _ in range(5)]
    page = look(site.url)
    live(page)
    for number in numbers[1:3]:
        tasks(page).get_by_label(f"Select task {number}").check()
    tasks(page).get_by_role("button", name="Delete 2", exact=True).click()
    expect(dialog(page)).to_contain_text("2 tasks will be deleted. There is no way back.")
    dialog(page).get_by_role("button", name="Keep").click()
    assert len(site.q.tasks()) == 5
    tasks(page).get_by_role("button", name="Delete 2", exact=True).click()
    dialog(page).get_by_role("button", name="Delete 2 tasks").click()
    for number in numbers[1:3]:
        expect(row(page, number)).to_have_count(0)
    assert [task.id for task in site.q.tasks()] == [numbers[0], *numbers[3:]]


def test_new_tasks_come_from_what_the_handlers_say(site: Site, look: Look, runners: RunnerStart) -> None:
    runners()
    page = look(site.url)
    live(page)
    said = "select payload_schema is not null from kind_overview where kind = 'count_to'"
    until(lambda: site.db.query(said) == [(True,)], "what the runner's executors say of their kinds")
    page.get_by_role("button", name="New task").click()
    form = dialog(page)
    form.get_by_label("Kind").fill("count_to")
    form.get_by_label("total").fill("2")
    form.get_by_label("pause").fill("0")
    form.get_by_role("button", name="Create task").click()
    expect(page.get_by_role("complementary")).to_contain_text("count_to")
    until(lambda: site.q.tasks("status = 'succeeded'"), "the new task to end")
    assert site.q.tasks()[0].payload == {"total": 2, "pause": 0}


def test_what_the_service_refuses_is_said(site: Site, look: Look, watch: Watch) -> None:
    watch.allow("status of 400")
    page = look(site.url)
    live(page)
    page.get_by_role("button", name="New task").click()
    form = dialog(page)
    form.get_by_label("Kind").fill("any")
    form.get_by_text("Options").click()
    form.get_by_label("Priority").fill("1000")
    form.get_by_role("button", name="Create task").click()
    expect(form.get_by_role("alert")).to_contain_text("priority: Expected `int` <= 100")
    assert site.q.tasks() == []


def test_queues_are_paused_and_runners_drained(site: Site, look: Look, runners: RunnerStart) -> None:
    runner = runners().name
    page = look(site.url)
    page.get_by_role("button", name="Pause queue default").click()
    expect(page.get_by_role("region", name="Needs attention")).to_contain_text("Queue default is paused")
    assert site.db.value("select paused from queue")
    page.get_by_role("button", name="Resume queue default").click()
    expect(page.get_by_role("region", name="Needs attention")).to_have_count(0)
    page.get_by_role("button", name=f"Drain runner {runner}").click()
    expect(page.get_by_role("region", name="Runners")).to_contain_text("draining")
    page.get_by_role("button", name=f"Resume runner {runner}").click()
    expect(page.get_by_role("region", name="Runners")).not_to_contain_text("draining")


def tab_to(page: Page, name: str) -> None:
    """Presses Tab until that is where the focus is."""
    for _ in range(300):
        page.keyboard.press("Tab")
        named = page.evaluate("() => document.activeElement.ariaLabel ?? document.activeElement.innerText")
        if re.sub(r"\s+", " ", named or "").strip() == name:
            return
    raise AssertionError(f"Tab leads to no {name!r}")


def test_by_keyboard_alone_a_task_is_opened_and_cancelled(site: Site, look: Look, runners: RunnerStart) -> None:
    runners()
    number = site.q.submit("nap", payload={"seconds": 600})
    page = look(site.url)
    live(page)
    expect(row(page, number)).to_contain_text("running")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # to the tasks, past all else
    tab_to(page, str(number))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"Task {number}")).to_be_focused()
    tab_to(page, f"Cancel task {number}")
    page.keyboard.press("Enter")
    expect(dialog(page).get_by_role("button", name="Keep")).to_be_focused()
    tab_to(page, f"Cancel task {number}")
    page.keyboard.press("Enter")
    expect(row(page, number)).to_contain_text("cancelled")
    page.keyboard.press("Escape")
    expect(drawer(page, number)).to_have_count(0)
    expect(row(page, number).get_by_role("link")).to_be_focused()
