"""Signing in to the page: the cookie, and who it is good for."""

import re

import httpx
import pytest
from lockgate_service.auth import keys
from lockgate_service.auth.browser import BODY_MAX

from tests.contract import Contract, until
from tests.database import Database
from tests.service.api_keys import BEARER, bearer, make_key
from tests.service.conftest import Asking, ProcessStart, ServiceStart, serving

SAME = {"sec-fetch-site": "same-origin"}


def brought(key: str) -> dict[str, str]:
    return {"cookie": f"{keys.COOKIE}={key}"}


def sign_in(client: httpx.Client, key: str, root: str = "", **headers: str) -> httpx.Response:
    client.cookies.clear()
    answer = client.post(f"{root}/sign-in", data={"key": key}, headers=SAME | headers)
    client.cookies.clear()
    return answer


def test_a_key_once_typed_is_kept_in_a_cookie_that_no_script_and_no_other_site_gets(asking: Asking) -> None:
    _, client, made = asking
    answer = sign_in(client, f" {made['read']}\n")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert answer.headers["set-cookie"] == f"lockgate_key={made['read']}; Path=/; HttpOnly; SameSite=Strict"
    assert client.get("/tasks", headers=brought(made["read"])).status_code == 200


@pytest.mark.parametrize("key", ["", "nonsense", BEARER, f"{BEARER}; Path=/", "ключ"])
def test_a_wrong_key_is_asked_for_again_and_not_repeated(asking: Asking, key: str) -> None:
    _, client, _ = asking
    answer = sign_in(client, key)
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert "Not signed in: " in answer.text
    assert "set-cookie" not in answer.headers
    assert key == "" or key not in answer.text


@pytest.mark.parametrize("body", [b"", b"key", b"\xff=\xff", b"&" * 5000, b'{"key": "x"}', b"key=" + b"a" * 10_000])
def test_what_is_no_form_of_ours_is_no_key(asking: Asking, body: bytes) -> None:
    _, client, _ = asking
    answer = client.post("/sign-in", content=body, headers=SAME)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="lockgate"')
    assert "Not signed in: " in answer.text


def test_a_form_is_read_up_to_a_limit(asking: Asking) -> None:
    _, client, _ = asking
    answer = client.post("/sign-in", content=b"key=" + b"a" * BODY_MAX, headers=SAME)
    assert answer.status_code == 413


def test_the_page_that_asks_takes_no_script_and_nothing_from_elsewhere(asking: Asking) -> None:
    _, client, _ = asking
    answer = sign_in(client, "nonsense")
    policy = dict(one.strip().split(" ", 1) for one in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    # With no-referrer, browsers send `Origin: null` with its form.
    assert answer.headers["referrer-policy"] == "same-origin"


def test_one_goes_on_to_what_was_asked_for_and_nowhere_else(asking: Asking) -> None:
    _, client, made = asking

    def then(query: str) -> str:
        form = {"key": made["admin"], "then": query}
        answer = client.post("/sign-in", data=form, headers=SAME)
        client.cookies.clear()
        assert answer.status_code == 303
        return answer.headers["location"]

    assert then("task=17&status=failed&error=a+b") == "/?task=17&status=failed&error=a+b"
    assert then("//evil.example/?x=1") == "/?%2F%2Fevil.example%2F%3Fx=1"
    assert then("a=\r\nset-cookie: x=y") == "/?a=%0D%0Aset-cookie%3A+x%3Dy"
    wrong = client.post("/sign-in", data={"key": "", "then": 'task=17&"><script>'}, headers=SAME)
    assert 'value="task=17&amp;&quot;&gt;&lt;script&gt;"' in wrong.text


def test_over_https_the_cookie_stays_there_and_below_a_path_too(process: ProcessStart, db: Database) -> None:
    key = make_key(db, "web")
    one = serving(process, db.service, "--trusted-proxies", "127.0.0.1", "--root-path", "/lockgate")
    with one.client() as client:
        assert sign_in(client, key, "/lockgate").headers["set-cookie"].endswith("; HttpOnly; SameSite=Strict")
        answer = sign_in(client, key, "/lockgate", **{"x-forwarded-proto": "https"})
        assert answer.headers["location"] == "/lockgate/"
        kept = f"lockgate_key={key}; Path=/lockgate; HttpOnly; SameSite=Strict; Secure"
        assert answer.headers["set-cookie"] == kept
        gone = client.post("/lockgate/sign-out", headers=SAME | {"x-forwarded-proto": "https"})
        assert gone.headers["set-cookie"] == f"{kept.replace(key, '')}; Max-Age=0"


def test_what_only_says_that_it_came_over_https_did_not(process: ProcessStart, db: Database) -> None:
    key = make_key(db, "web")
    one = serving(process, db.service)
    with one.client() as client:
        assert "Secure" not in sign_in(client, key, **{"x-forwarded-proto": "https"}).headers["set-cookie"]


def test_of_several_cookies_that_of_our_own_path_counts(asking: Asking) -> None:
    """Browsers send it first."""
    _, client, made = asking
    both = {"cookie": f"a=b; {keys.COOKIE}={made['read']};{keys.COOKIE}={BEARER}"}
    assert client.get("/tasks", headers=both).status_code == 200


def test_a_cookie_is_good_for_what_its_key_is_good_for(asking: Asking) -> None:
    _, client, made = asking
    for scope, statuses in {"read": (200, 403, 403), "submit": (200, 202, 403), "admin": (200, 202, 200)}.items():
        headers = brought(made[scope]) | SAME  # type: ignore[index]
        answers = (
            client.get("/tasks", headers=headers),
            client.post("/task", headers=headers),
            client.post("/queues/default/resume", headers=headers),
        )
        assert tuple(answer.status_code for answer in answers) == statuses
    with client.stream("GET", "/events", headers=brought(made["read"])) as stream:
        assert stream.status_code == 200


def test_a_revoked_key_is_out_though_its_cookie_is_there(start: ServiceStart, db: Database) -> None:
    client = start(db.service, published="0.0.0.0:8000")
    key = make_key(db, "web")
    assert client.get("/tasks", headers=brought(key)).status_code == 200
    db.query("select lockgate.revoke_key('web')")
    until(lambda: client.get("/tasks", headers=brought(key)).status_code == 401, "the revocation to be noticed")
    assert sign_in(client, key).status_code == 401


def test_who_shows_a_key_is_asked_for_no_other(asking: Asking) -> None:
    _, client, made = asking
    assert client.get("/tasks", headers=bearer(BEARER) | brought(made["admin"])).status_code == 401
    assert client.post("/task", headers=bearer(made["submit"]) | brought(BEARER)).status_code == 202
    elsewhere = {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"}
    assert client.post("/task", headers=bearer(made["submit"]) | elsewhere).status_code == 202


HERE = "lockgate.example:8000"
FROM_HERE = [
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
    {"origin": f"http://{HERE}"},
    {"origin": f"https://{HERE}"},
    {"sec-fetch-site": "same-origin", "origin": "https://public.example"},  # a proxy names us otherwise
]
FROM_ELSEWHERE = [
    {"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"},
    {"sec-fetch-site": "same-site", "origin": "http://lockgate.example:3000"},
    {"sec-fetch-site": "cross-site", "origin": f"http://{HERE}"},
    {"origin": "http://lockgate.example"},
    {"origin": f"http://{HERE}.elsewhere.example"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", [*FROM_ELSEWHERE, {}], ids=str)
def test_a_browser_acts_for_no_page_of_another_origin(asking: Asking, headers: dict[str, str]) -> None:
    db, client, made = asking
    before = db.query("select count(*) from lockgate.task")
    for method, path in (("POST", "/task"), ("PATCH", "/tasks/1"), ("DELETE", "/tasks/1"), ("POST", "/tasks/bulk")):
        refused = client.request(method, path, headers=brought(made["admin"]) | {"host": HERE} | headers)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
        assert "elsewhere" in refused.json()["detail"]
    assert client.get("/tasks", headers=brought(made["admin"]) | {"host": HERE} | headers).status_code == 200
    assert db.query("select count(*) from lockgate.task") == before


@pytest.mark.parametrize("headers", FROM_HERE, ids=str)
def test_a_browser_acts_for_our_own_page(asking: Asking, headers: dict[str, str]) -> None:
    _, client, made = asking
    asked = brought(made["submit"]) | {"host": HERE} | headers
    assert client.post("/task", headers=asked).status_code == 202
    assert client.post("/sign-in", data={"key": made["read"]}, headers={"host": HERE} | headers).status_code == 303
    assert client.post("/sign-out", headers={"host": HERE} | headers).status_code == 303
    client.cookies.clear()


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
def test_nobody_is_signed_in_or_out_by_another_site(asking: Asking, headers: dict[str, str]) -> None:
    _, client, made = asking
    for path in ("/sign-in", "/sign-out"):
        refused = client.post(path, data={"key": made["read"]}, headers={"host": HERE} | headers)
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
def test_where_no_key_is_asked_for_pages_of_other_origins_still_do_nothing(
    http: httpx.Client, q: Contract, headers: dict[str, str]
) -> None:
    """A service on loopback is there for whatever page its user looks at."""
    assert http.post("/task", headers={"host": HERE} | headers).status_code == 403
    assert http.post("/task").status_code == 202
    assert http.post("/task", headers={"host": HERE} | FROM_HERE[0]).status_code == 202


def test_where_no_key_is_asked_for_there_is_nothing_to_sign_in_to(http: httpx.Client) -> None:
    answer = sign_in(http, "whatever")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "set-cookie" not in answer.headers


def test_while_the_database_is_away_signing_in_says_so(start: ServiceStart) -> None:
    client = start("postgresql://nobody@127.0.0.1:1/none", ready=False, published="0.0.0.0:8000")
    answer = sign_in(client, BEARER)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "Not signed in: the database cannot be reached." in answer.text


def test_a_page_loaded_again_after_a_wrong_key_asks_again(asking: Asking) -> None:
    _, client, _ = asking
    answer = client.get("/sign-in")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_no_key_gets_into_the_log(process: ProcessStart, db: Database) -> None:
    key, wrong = make_key(db, "web"), keys.make()[1]
    one = serving(process, db.service, "--log-level", "debug")
    with one.client() as client:
        assert sign_in(client, key).status_code == 303
        assert sign_in(client, wrong).status_code == 401
        assert client.post("/task", headers=brought(key)).status_code == 403
        assert client.get("/tasks", headers=brought(key)).status_code == 200
        assert client.get("/tasks", headers=brought(wrong)).status_code == 401
    one.popen.terminate()
    code, said = one.ended()
    everything = said + str(one.lines)
    assert code == 0
    assert "/sign-in" in everything
    for secret in (key, wrong):
        assert not re.search(secret.rpartition("_")[2], everything)


def test_the_root_without_its_slash_leads_to_the_one_with_it(start: ServiceStart, db: Database) -> None:
    """Links of pages are relative."""
    client = start(db.service, root_path="/lockgate")
    answer = client.get("/lockgate?task=17")
    assert (answer.status_code, answer.headers["location"]) == (308, "/lockgate/?task=17")
