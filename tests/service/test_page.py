"""GET /: the page as the service paints it, before any of its scripts."""

import gzip
import html
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from lockgate_service.page.page import FILES
from lockgate_service.pool import Pool, Rows

from tests.contract import Contract, until
from tests.database import Database
from tests.service.api_keys import bearer, make_key
from tests.service.conftest import ServiceStart

SIZE_MAX = 100_000
STRANGE = "<script>alert(1)</script>\"' 任務 Ж"


def rows(page: str) -> list[int]:
    """The numbers of the tasks in the table."""
    return [
        int(number) for number in re.findall(r'<tr data-key="(\d+)" data-status', page.split('<template id="piece')[0])
    ]


def link(page: str, rel: str) -> str | None:
    found = re.search(rf'<a class="button" rel="{rel}" href="([^"]+)"', page)
    return html.unescape(found[1]) if found else None


def test_slots_counters_tasks_queues_and_runners_are_there_without_scripts(http: httpx.Client, q: Contract) -> None:
    q.queue("gpu", slots=1, paused=True)
    runner = q.runner("web-1")
    q.runner("web-2")
    running = q.submit("thumbnail")
    runner.work(1)
    waiting = q.submit("mail", "gpu")
    page = http.get("/").text
    assert rows(page) == [waiting, running]
    box = re.search(r'data-key="default/1" data-status="running".*?</li>', page, re.DOTALL)
    assert box is not None
    assert "thumbnail" in box[0]
    assert "web-1" in box[0]
    assert f'href="?task={running}"' in box[0]
    assert 'data-key="default/2" data-status="free"' in page
    assert "1 runner stands by" in page
    assert "Queue gpu is paused" in page
    assert 'data-f="queued">1<' in page
    assert re.search(r'<tr data-key="gpu" data-paused>', page)
    assert page.count('href="?runner=web-') == 2


def test_whatever_is_in_the_database_is_text(http: httpx.Client, q: Contract) -> None:
    error = {"type": STRANGE, "message": STRANGE, "traceback": STRANGE}
    number = q.row("failed", kind=STRANGE, payload={STRANGE: STRANGE}, error=error, tags=[STRANGE], runner=STRANGE)
    for query in ("", f"?task={number}", f"?kind={quote(STRANGE)}", f"?status={quote(STRANGE)}"):
        page = http.get(f"/{query}").text
        assert html.escape(STRANGE, quote=False).split('"')[0] in page
        assert STRANGE not in page
        assert "<script>" not in page
        assert page.count("<script") == 1


def test_the_page_may_load_nothing_and_do_nothing_that_is_not_a_file_of_ours(http: httpx.Client, q: Contract) -> None:
    number = q.row("failed")
    answer = http.get(f"/?task={number}")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "trusted-types 'none'" in policy
    assert answer.headers.get_list("content-security-policy") == [policy]
    assert answer.headers["cache-control"] == "no-store"
    # Such as `style=` and `onclick=`, which the policy forbids.
    assert not re.findall(r"<[^>]+\s(?:style|on\w+)=", answer.text)
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", answer.text)
    ours = b"".join(file.plain for file in FILES.values()).decode()
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", ours)
    hosts = {found for found in re.findall(r"https?://([\w.-]+)", ours) if found != "www.w3.org"}
    assert not hosts


@pytest.mark.parametrize("root", ["", "/lockgate"])
def test_every_link_of_the_page_is_relative(start: ServiceStart, db: Database, q: Contract, root: str) -> None:
    client = start(db.service, root_path=root)
    number = q.row("failed")
    page = client.get(f"{root}/?task={number}").text
    links = re.findall(r'(?:href|src|action)="([^"]*)"', page.split('<template id="piece')[0])
    assert len(links) > 30
    assert [one for one in links if one.startswith("/") or ":" in one] == []
    files = [one for one in links if one.startswith("static/")]
    assert len(files) == len(FILES)
    for one in (*files, "docs", f"tasks/{number}"):
        assert client.get(f"{root}/{one}").status_code == 200, one
    if root:
        moved = client.get(f"{root}?task=1")
        assert (moved.status_code, moved.headers["location"]) == (308, "/lockgate/?task=1")


def test_files_may_be_kept_for_ever(http: httpx.Client) -> None:
    path = re.findall(r'src="([^"]+)"', http.get("/").text)[0]
    packed = http.get(f"/{path}")
    assert "immutable" in packed.headers["cache-control"]
    assert packed.headers["content-encoding"] == "gzip"
    plain = http.get(f"/{path}", headers={"accept-encoding": "identity"})
    assert plain.content == packed.content
    assert "content-encoding" not in plain.headers
    assert http.get("/" + path.replace("start.js", "none.js")).status_code == 404


def test_all_of_it_is_less_than_100_kb(http: httpx.Client, q: Contract) -> None:
    for _ in range(60):
        q.row("failed", kind="thumbnails.render", tags=["one", "another"])
    with http.stream("GET", "/") as answer:
        page = b"".join(answer.iter_raw())
    assert len(rows(gzip.decompress(page).decode())) == 50
    assert len(page) + sum(len(file.packed) for file in FILES.values()) < SIZE_MAX


def test_a_page_reads_a_bounded_number_of_rows(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    q.db.query(
        """insert into lockgate.task (queue, kind, payload, max_attempts, status)
           select 'default', 'sleep', '{}', 3, 'queued' from generate_series(1, 5000)"""
    )
    read: list[int] = []
    rows_of = Pool.rows

    async def counted(self: Pool, *args: Any, **named: Any) -> Rows:
        found = await rows_of(self, *args, **named)
        read.append(len(found))
        return found

    monkeypatch.setattr(Pool, "rows", counted)
    for query in ("", "?kind=none", "?status=queued", "?error=nothing&tag=x"):
        read.clear()
        assert http.get(f"/{query}").status_code == 200
        assert sum(read) < 500, query


def test_older_and_newer_lead_through_all_that_match(http: httpx.Client, q: Contract) -> None:
    numbers = [q.row("failed", kind="a" if index % 2 else "b") for index in range(240)]
    expected = [number for index, number in enumerate(numbers) if index % 2][::-1]
    pages = [http.get("/?kind=a").text]
    while following := link(pages[-1], "next"):
        pages.append(http.get(f"/{following}").text)
    assert [number for page in pages for number in rows(page)] == expected
    assert len(pages) == 3
    back = link(pages[-1], "prev")
    assert back is not None
    assert rows(http.get(f"/{back}").text) == rows(pages[1])
    first = link(http.get(f"/{back}").text, "prev")
    assert first is not None
    assert rows(http.get(f"/{first}").text) == rows(pages[0])
    assert link(pages[0], "prev") is None


def test_a_filter_that_cannot_be_read_is_named_and_lists_nothing(http: httpx.Client, q: Contract) -> None:
    number = q.row("failed")
    assert rows(http.get("/?status=failed&finished_after=1h&unknown=1").text) == [number]
    page = http.get("/?finished_after=yesterday&status=lost").text
    assert rows(page) == []
    assert "finished after: must be like" in page
    assert "there is no status “lost”" in page
    assert http.get("/?kind=%00&task=x&below=99999999999999999999").status_code == 200


@pytest.mark.parametrize("message", ["", "the bank is closed", "x" * 300])
def test_what_has_failed_comes_first_and_leads_to_its_tasks(http: httpx.Client, q: Contract, message: str) -> None:
    numbers = [q.row("failed", error={"type": "E" * 90, "message": message}) for _ in range(3)]
    q.row("failed", error={"type": "Other", "message": message})
    page = http.get("/").text
    assert page.index("Needs attention") < page.index(">Slots</h2>")
    item = re.search(r'<li class="problem".*?3 × sleep failed.*?</li>', page, re.DOTALL)  # noqa: RUF001
    assert item is not None
    assert "Retry all 3" in item[0]
    href = re.search('href="([^"]+)"', item[0])
    assert href is not None
    assert rows(http.get(f"/{html.unescape(href[1])}").text) == numbers[::-1]


def test_a_task_is_shown_in_full_and_its_numbers_are_as_they_were_sent(http: httpx.Client, q: Contract) -> None:
    made = http.post("/tasks", content=b'{"kind": "a", "payload": {"big": 12345678901234567890123, "e": 1.50}}')
    page = http.get(f"/?task={made.json()['id']}").text
    assert "12345678901234567890123" in page
    assert "1.50" in page
    assert "There is no task 999" in http.get("/?task=999").text


def test_a_part_is_only_that(http: httpx.Client, q: Contract) -> None:
    number = q.row("failed")
    page = http.get(f"/?part=tasks&task={number}").text
    assert rows(page) == [number]
    assert 'id="slots"' not in page
    assert f"Task {number}</h2>" not in page
    page = http.get(f"/?part=task&task={number}").text
    assert rows(page) == []
    assert f"Task {number}</h2>" in page


def test_a_key_sees_what_it_is_good_for(http: httpx.Client, db: Database, q: Contract) -> None:
    q.queue("gpu", slots=1)
    mine, other = q.row("failed", queue="gpu"), q.row("failed")
    reader, submitter, admin, limited = (
        make_key(db, *arguments)
        for arguments in (("reader", "read"), ("submitter", "submit"), ("admin", "admin"), ("limited", "admin", "gpu"))
    )

    def seen(key: str, query: str = "") -> str:
        answer = http.get(f"/{query}", headers=bearer(key))
        assert answer.status_code == 200
        return answer.text

    controls = ('data-do="retry"', 'data-do="delete"', 'id="new"', 'data-act="purge"', 'id="bulk"', 'class="stepper')
    for key, expected in ((reader, 0), (submitter, 2), (admin, 6)):
        page = seen(key, f"?task={other}")
        assert sum(one in page for one in controls) == expected
    page = seen(limited, f"?task={other}")
    assert rows(page) == [mine]
    assert f"There is no task {other}" in page
    assert "default/1" not in page
    assert "good for queue" in seen(limited, "?queue=default")


def test_while_the_database_is_away_the_page_says_so_and_tries_again(start: ServiceStart) -> None:
    answer = start("postgresql://nobody@127.0.0.1:1/none", ready=False).get("/", headers={"accept": "text/html"})
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/html")
    assert 'http-equiv="refresh"' in answer.text
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_a_page_that_breaks_off_says_why_and_tries_again(http: httpx.Client, db: Database) -> None:
    db.query("revoke execute on function lockgate.list_tasks from lockgate_service")
    with http.stream("GET", "/?status=queued") as answer:
        assert answer.status_code == 200  # it was said before the list was read
        text = "".join(answer.iter_text())
    assert text.index("<header") < text.index('http-equiv="refresh"') < text.index("the database login may not do this")
    assert text.rstrip().endswith("</html>")
    assert "<table" not in text


def test_without_a_key_people_are_asked_for_one_and_come_back_to_where_they_were(
    http: httpx.Client, db: Database
) -> None:
    key = make_key(db, "somebody", "read")
    until(lambda: http.get("/stats").status_code == 401, "keys to be asked for")
    asked = http.get("/?status=failed", headers={"accept": "text/html"})
    assert asked.status_code == 401
    assert "www-authenticate" in asked.headers
    assert 'name="then" value="status=failed"' in asked.text
    assert 'role="alert"' not in asked.text
    headers = {"accept": "text/html", "cookie": "lockgate_key=wrong"}
    assert 'role="alert"' in http.get("/", headers=headers).text
    page = http.get("/?status=failed", headers={"cookie": f"lockgate_key={key}"})
    assert page.status_code == 200
    assert 'action="sign-out"' in page.text
    assert http.get("/").headers["content-type"] == "application/problem+json"
