"""Who is signed in, and with what key."""

import re

from playwright.sync_api import expect

from tests.page import chromium
from tests.page.conftest import Look, Site
from tests.page.seen import drawer, live, row, sign_in
from tests.page.watch import Watch
from tests.service.conftest import RunnerStart

REFUSED = "status of 401"
CONTROLS = re.compile("cancel|retry|delete|purge|new task|slot|drain|queue|select", re.IGNORECASE)


def test_one_signs_in_with_a_key_and_out_again(guarded: Site, look: Look, watch: Watch) -> None:
    watch.allow(REFUSED)
    number = guarded.q.submit("secret")
    page = look(f"{guarded.url}/?task={number}")
    expect(page.get_by_label("API key")).to_be_focused()
    assert "secret" not in page.content()
    sign_in(page, "lockgate_nonsense")
    expect(page.get_by_role("alert")).to_contain_text("Not signed in: the key is not of the form")
    sign_in(page, guarded.keys["admin"])
    live(page)
    expect(drawer(page, number)).to_be_visible()  # where one wanted to go
    assert page.url == f"{guarded.url}/?task={number}"
    (kept,) = page.context.cookies()
    assert (kept["name"], kept["httpOnly"], kept["sameSite"]) == ("lockgate_key", True, "Strict")
    page.reload()
    live(page)
    drawer(page, number).get_by_role("link", name="Close").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.context.cookies() == []
    page.go_back()
    expect(page.get_by_label("API key")).to_be_visible()


def test_signing_in_and_acting_work_without_https_on_another_machine(guarded: Site, look: Look, watch: Watch) -> None:
    """Where browsers say nothing of the site that asks, but for its origin."""
    watch.allow(REFUSED)
    number = guarded.q.submit("thing")
    page = look(f"http://{chromium.HOST}:{guarded.port}/?task={number}")
    sign_in(page, guarded.keys["admin"])
    live(page)
    drawer(page, number).get_by_role("button", name=f"Cancel task {number}").click()
    expect(row(page, number)).to_contain_text("cancelled")
    drawer(page, number).get_by_role("link", name="Close").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_key_to_read_sees_everything_and_can_do_nothing(
    guarded: Site, look: Look, watch: Watch, runners: RunnerStart
) -> None:
    watch.allow(REFUSED)
    watch.allow("status of 403")
    runners()
    number = guarded.q.submit("nap", payload={"seconds": 600})
    guarded.q.row("failed")
    page = look(f"{guarded.url}/?task={number}")
    sign_in(page, guarded.keys["read"])
    live(page)
    expect(row(page, number)).to_contain_text("running")
    expect(drawer(page, number)).to_contain_text("600")
    names = page.get_by_role("button").all_inner_texts() + page.get_by_role("checkbox").all_inner_texts()
    assert "Sign out" in names
    assert [name for name in names if CONTROLS.search(name)] == []
    # Somebody who writes the request by hand, in the browser that is signed in.
    for method, path in (("POST", f"tasks/{number}/cancel"), ("PATCH", "queues/default"), ("DELETE", "tasks/1")):
        asked = "([method, path]) => fetch(path, { method, body: '{}' }).then((answer) => answer.status)"
        assert page.evaluate(asked, [method, path]) == 403
    assert guarded.q.task(number).status == "running"
    assert guarded.q.task(number).cancel_requested is None


def test_a_key_to_submit_acts_on_one_task_at_a_time(guarded: Site, look: Look, watch: Watch) -> None:
    watch.allow(REFUSED)
    number = guarded.q.row("failed")
    page = look(f"{guarded.url}/?task={number}")
    sign_in(page, guarded.keys["submit"])
    live(page)
    expect(page.get_by_role("button", name="New task")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Purge|Pause queue|One slot|Delete"))).to_have_count(0)
    drawer(page, number).get_by_role("button", name=f"Retry task {number}").click()
    expect(row(page, number)).to_contain_text("queued")


def test_another_site_does_nothing_in_the_name_of_who_is_signed_in(guarded: Site, look: Look, watch: Watch) -> None:
    """The browser is asked by a page of the same host and another port, which it counts as the same site."""
    watch.allow(REFUSED)
    watch.allow("blocked by CORS|status of 403|ERR_BLOCKED_BY_RESPONSE|ERR_FAILED|address space")
    number = guarded.q.submit("thing")
    page = look(guarded.url)
    sign_in(page, guarded.keys["admin"])
    live(page)
    elsewhere = page.context.new_page()
    elsewhere.route("**/evil", lambda route: route.fulfill(body="<h1>evil</h1>", content_type="text/html"))
    elsewhere.goto("http://127.0.0.1:8999/evil")
    watch.allow("asked elsewhere: http://127.0.0.1:8999/")
    asked = "(url) => fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include' }).then(() => 0, () => 1)"
    elsewhere.evaluate(asked, f"{guarded.url}/tasks/{number}/cancel")
    elsewhere.evaluate(
        """(url) => { const form = document.createElement("form"); form.method = "post"; form.action = url;
           document.body.append(form); form.submit(); }""",
        f"{guarded.url}/tasks/{number}/cancel",
    )
    expect(elsewhere.locator("body")).to_contain_text("forbidden")
    assert guarded.q.task(number).status == "queued"


def test_when_the_key_is_revoked_the_page_asks_for_another(guarded: Site, look: Look, watch: Watch) -> None:
    watch.allow(REFUSED)
    watch.allow("ERR_INCOMPLETE_CHUNKED_ENCODING|EventSource")
    page = look(guarded.url)
    sign_in(page, guarded.keys["read"])
    live(page)
    guarded.db.query("select lockgate.revoke_key('read')")
    guarded.q.submit("thing")  # so that the stream has something to tell
    expect(page.get_by_label("API key")).to_be_visible()


def test_where_no_key_is_asked_for_nobody_signs_in_or_out(site: Site, look: Look) -> None:
    page = look(site.url)
    live(page)
    expect(page.get_by_role("button", name=re.compile("Sign"))).to_have_count(0)
