"""What every answer has, and how the service is below a proxy."""

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.contract import Contract, until
from tests.database import Database
from tests.service.conftest import ProcessStart, ServiceStart, serving


@pytest.mark.parametrize(
    "path", ["/tasks", "/nope", "/docs", "/health/live", "/docs/openapi.json", "/tasks?x=1", "/problems"]
)
def test_no_answer_may_be_framed_sniffed_stored_or_read_by_others(refusing: httpx.Client, path: str) -> None:
    headers = refusing.get(path, headers={"origin": "https://elsewhere.example"}).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == ("same-origin" if path == "/docs" else "no-referrer")
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert not [name for name in headers if name.startswith("access-control-")]


def test_files_of_a_version_may_be_kept(refusing: httpx.Client) -> None:
    headers = refusing.get("/static/swagger-ui-5.35.0/swagger-ui.css").headers
    assert "immutable" in headers["cache-control"]
    assert len(headers.get_list("cache-control")) == 1


def test_another_origin_is_not_let_in(refusing: httpx.Client) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    answer = refusing.options("/tasks", headers=asked)
    assert not [name for name in answer.headers if name.startswith("access-control-")]


# -- below a proxy ----------------------------------------------------------------------------------------------------


@contextmanager
def proxied(upstream: str, strip: str) -> Iterator[str]:
    """A proxy with the service below /lockgate, that takes `strip` away from the paths; its URL."""
    host = upstream.removeprefix("http://")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self) -> None:
            connection = http.client.HTTPConnection(host, timeout=20)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = dict(self.headers) | {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
            connection.request(self.command, self.path.removeprefix(strip) or "/", body, headers)
            answer = connection.getresponse()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name != "transfer-encoding":
                    self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # somebody has gone
                while said := answer.read1(65536):
                    self.wfile.write(said)
            connection.close()

        do_GET = do_POST = do_PATCH = do  # noqa: N815  as the base class looks for them

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


@pytest.mark.parametrize("strip", ["/lockgate", ""], ids=["taken-away", "left"])
def test_below_a_path_every_link_leads_back_through_the_proxy(start: ServiceStart, q: Contract, strip: str) -> None:
    direct = start(q.db.service, root_path="/lockgate")
    with proxied(str(direct.base_url).rstrip("/"), strip) as url, httpx.Client(base_url=url, timeout=20) as client:
        made = client.post("/lockgate/task")
        assert made.status_code == 202
        assert made.headers["location"] == f"/lockgate/task/{made.json()}"
        assert client.get(made.headers["location"]).status_code == 200
        refused = client.get("/lockgate/tasks/0")
        assert client.get(refused.json()["type"]).json()["name"] == "not-found"
        assert client.get("/lockgate/docs").status_code == 200
        assert client.get("/lockgate/nope").status_code == 404


@pytest.mark.parametrize(
    ("trusted", "client"), [("127.0.0.1", "203.0.113.9"), ("10.0.0.0/8", "127.0.0.1"), ("", "127.0.0.1")]
)
def test_what_a_proxy_says_of_its_client_is_believed_only_if_that_is_trusted(
    process: ProcessStart, db: Database, trusted: str, client: str
) -> None:
    one = serving(process, db.service, "--trusted-proxies", trusted)
    one.get("/tasks", headers={"x-forwarded-for": "203.0.113.9"})
    until(lambda: one.said("request"), "the log to say so")
    request = one.said("request")
    assert request is not None
    assert request["client"] == client
