"""What happens elsewhere is seen without loading the page again, whatever becomes of the connection."""

import re
from contextlib import ExitStack

from playwright.sync_api import Page, expect

from tests.contract import Contract, until
from tests.page.conftest import Look, Site, served
from tests.page.seen import band, drawer, live, row, tasks
from tests.page.watch import CUT_OFF, Watch
from tests.proxy import Proxy
from tests.service.conftest import RunnerStart
from tests.service.test_middleware import proxied


def mark(page: Page) -> None:
    """Is gone when the page is loaded again."""
    page.evaluate("() => { window.marked = true }")


def is_marked(page: Page) -> bool:
    return bool(page.evaluate("() => window.marked === true"))


def test_a_task_submitted_elsewhere_appears_and_moves_without_reload(site: Site, look: Look) -> None:
    page = look(site.url)
    live(page)
    mark(page)
    number = site.q.submit("nap")
    expect(row(page, number)).to_contain_text("queued")
    expect(band(page)).to_contain_text("1 waiting")
    runner = site.q.runner()
    claimed = runner.work()
    expect(row(page, number)).to_contain_text("running")
    expect(band(page).get_by_role("listitem").first).to_contain_text(f"nap {number}")
    expect(band(page)).to_contain_text("1 of 2 executing")
    runner.finish(claimed)
    expect(row(page, number)).to_contain_text("succeeded")
    expect(band(page)).to_contain_text("0 of 2 executing")
    assert is_marked(page)


def test_standbys_are_seen_beside_the_slots(site: Site, look: Look, runners: RunnerStart) -> None:
    """Two of two are busy while others stand by."""
    page = look(site.url)
    live(page)
    for _ in range(2):
        site.q.submit("nap", payload={"seconds": 600})
    for _ in range(4):
        runners()
    expect(band(page)).to_contain_text("2 of 2 executing")
    expect(band(page)).to_contain_text("2 runners stand by")
    expect(page.get_by_role("region", name="Runners").get_by_role("row")).to_have_count(5)


def test_progress_and_what_was_printed_are_seen_while_it_runs(site: Site, look: Look, runners: RunnerStart) -> None:
    runners()
    number = site.q.submit("count_to", payload={"total": 600, "pause": 0.5})
    page = look(f"{site.url}/?task={number}")
    expect(band(page).get_by_role("progressbar").first).to_be_visible()
    expect(drawer(page, number)).to_contain_text("of 600")
    expect(row(page, number)).to_contain_text("running")


def test_a_lost_connection_is_said_and_when_it_is_back_what_was_missed_is_there(
    site: Site, look: Look, watch: Watch
) -> None:
    watch.allow(CUT_OFF)
    with Proxy(f"host=127.0.0.1 port={site.port}") as line:
        page = look(f"http://{line.address}")
        live(page)
        mark(page)
        known = site.q.submit("known")
        expect(row(page, known)).to_contain_text("queued")
        line.cut()
        expect(page.locator("#state")).to_contain_text("connection lost, reconnecting")
        missed = [site.q.submit("missed") for _ in range(3)]
        site.q.cancel(known)
        line.connect()
        live(page)
        for number in missed:
            expect(row(page, number)).to_contain_text("queued")
        expect(row(page, known)).to_contain_text("cancelled")
        assert is_marked(page)


def test_a_service_that_is_started_again_is_found_again(q: Contract, look: Look, watch: Watch) -> None:
    watch.allow(CUT_OFF)
    with ExitStack() as first:
        port = served(q, first, {}).port
        with Proxy(f"host=127.0.0.1 port={port}") as line, ExitStack() as second:
            page = look(f"http://{line.address}")
            live(page)
            first.close()
            expect(page.locator("#state")).to_contain_text("reconnecting")
            number = q.submit("meanwhile")
            line.lead_to(served(q, second, {}).port)
            live(page)
            expect(row(page, number)).to_contain_text("queued")


def test_below_a_path_behind_a_proxy_all_of_it_works(q: Contract, look: Look, runners: RunnerStart) -> None:
    with ExitStack() as stack:
        site = served(q, stack, {}, root_path="/lockgate")
        url = stack.enter_context(proxied(site.url, "/lockgate"))
        page = look(f"{url}/lockgate/")
        live(page)
        runners()
        number = q.submit("nap", payload={"seconds": 600})
        expect(row(page, number)).to_contain_text("running")
        row(page, number).get_by_role("link").click()
        expect(drawer(page, number)).to_contain_text("running")
        assert page.url == f"{url}/lockgate/?task={number}"
        page.get_by_role("button", name=f"Cancel task {number}").click()
        page.get_by_role("dialog").get_by_role("button", name=f"Cancel task {number}").click()
        expect(row(page, number)).to_contain_text("cancelled")
        page.reload()
        drawer(page, number).get_by_role("link", name="Close").click()
        page.get_by_role("link", name="API", exact=True).click()
        expect(page).to_have_title("Lockgate: the API")
        page.close()  # it still loads, and would complain of servers that are gone


def test_without_javascript_it_is_a_snapshot(site: Site, look: Look, runners: RunnerStart) -> None:
    runners()
    running = site.q.submit("nap", payload={"seconds": 600})
    until(lambda: site.q.task(running).status == "running", "the task to run")
    for _ in range(60):
        site.q.row("failed", kind="broken")
    page = look(site.url, java_script_enabled=False)
    expect(band(page)).to_contain_text("1 of 2 executing")
    expect(band(page).get_by_role("listitem").first).to_contain_text(f"nap {running}")
    expect(page.get_by_role("region", name="Numbers")).to_contain_text(re.compile("1 *running"))
    expect(tasks(page).get_by_role("row")).to_have_count(51)
    tasks(page).get_by_label("Kind").fill("nap")
    tasks(page).get_by_role("button", name="Filter").click()
    expect(tasks(page).get_by_role("row")).to_have_count(2)
    row(page, running).get_by_role("link").click()
    expect(drawer(page, running)).to_contain_text("600")
    assert page.get_by_role("button").all_inner_texts() == ["Filter"]


def test_a_page_that_is_not_looked_at_asks_nothing_of_the_service(site: Site, look: Look) -> None:
    page = look(site.url)
    live(page)
    page.get_by_role("button", name="Pause updates").click()
    expect(page.locator("#state")).to_contain_text("paused")
    number = site.q.submit("unseen")
    expect(row(page, number)).to_have_count(0)
    page.get_by_role("button", name="Resume updates").click()
    expect(row(page, number)).to_contain_text("queued")
