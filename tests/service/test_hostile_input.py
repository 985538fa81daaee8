"""Whatever is sent: a problem document that names what is wrong, nothing stored, and the connection serves on."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract import Contract
from tests.database import Database, Template
from tests.service.api_keys import make_key
from tests.service.conftest import running, until_ready

# The same in every run; time says nothing on a machine that is busy.
DERANDOMIZED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Wire:
    """A connection on which anything can be sent, and which is opened again when the service has closed it."""

    def __init__(self, url: str, key: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = host, int(port)
        self._authorization = f"Bearer {key}".encode()
        self._socket = socket.create_connection(self._address, timeout=20)

    def close(self) -> None:
        self._socket.close()

    def send(self, raw: bytes) -> "Answer":
        """These bytes, whatever they are, on a connection of their own."""
        self.close()
        self._socket = socket.create_connection(self._address, timeout=20)
        return self._exchange(raw)

    def request(
        self, method: str, path: bytes, body: bytes = b"", headers: Mapping[bytes, bytes] | None = None
    ) -> "Answer":
        """On the connection of the request before, which has to serve on."""
        lines = {b"host": b"x", b"authorization": self._authorization, b"content-length": b"%d" % len(body)}
        lines |= headers or {}
        head = b"".join(b"%s: %s\r\n" % line for line in lines.items())
        return self._exchange(b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method.encode(), path, head, body))

    def _exchange(self, raw: bytes) -> "Answer":
        self._socket.sendall(raw)
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        answer = Answer(response, response.read())
        response.close()
        return answer


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    def refused(self, *statuses: int) -> dict[str, Any]:
        """The problem document that it has to be, with one of these statuses."""
        assert self.status in (statuses or (400,)), (self.status, self.body)
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        if self.status == 400:
            assert problem["errors"], problem
            assert all(error["field"] and error["message"] for error in problem["errors"])
        return problem


def rows(db: Database) -> dict[str, list[Any]]:
    """All that is in the database, by table; of keys only how many, since it is noted when they are used."""
    names = db.query("select relname from pg_class where relnamespace = 'lockgate'::regnamespace and relkind = 'r'")
    return {
        name: db.query(f"select {'count(*)' if name == 'api_key' else 't::text'} from lockgate.{name} t")
        for (name,) in names
    }


@pytest.fixture(scope="module")
def served(pg_template: Template) -> Iterator[tuple[Database, str, str]]:
    """A database with a task and a service that asks for keys: its URL, and a key."""
    with pg_template.clone() as db, running(db.service) as client:
        Contract(db).submit(payload={"a": 1})
        key = make_key(db, "all")
        until_ready(client)
        yield db, str(client.base_url).rstrip("/"), key


@pytest.fixture
def wire(served: tuple[Database, str, str]) -> Iterator[Wire]:
    """After whose use everything in the database is as it was."""
    db, url, key = served
    before = rows(db)
    wire = Wire(url, key)
    yield wire
    assert wire.send(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").status == 200
    wire.close()
    assert rows(db) == before


# -- bodies -----------------------------------------------------------------------------------------------------------

TASK = {
    "kind": "a", "queue": "default", "payload": {"a": [1, {"b": "c"}]}, "priority": 1, "delay": 1.5, "timeout": 2,
    "max_attempts": 3, "tags": ["d"], "metadata": {"e": {"f": ["g"]}}, "dedupe_key": "h",
}  # fmt: skip
BODIES: Mapping[tuple[str, bytes], Any] = {
    ("POST", b"/tasks"): TASK,
    ("POST", b"/tasks/batch"): {"items": [{"kind": "a"}, TASK | {"idempotency_key": "i"}]},
    ("POST", b"/tasks/stream"): TASK | {"idempotency_key": "i"},
    ("POST", b"/tasks/bulk"): {"action": "cancel", "filter": {"kind": "a", "status": ["failed"]}, "dry_run": False},
    ("POST", b"/tasks/1/cancel"): {"force": True},
    ("PATCH", b"/tasks/1"): {"priority": 1, "tags": ["a"], "max_attempts": 5},
    ("POST", b"/queues"): {"name": "b", "slots": 1, "timeout": 1.5, "kinds": ["a"]},
    ("PATCH", b"/queues/default"): {"slots": 3, "grace": 7.5, "kinds": ["a"], "paused": True},
}
# Refused wherever they are.
POISONS = [
    # No UTF-8: a lone byte, a surrogate, a form that is too long, beyond Unicode, cut off.
    b'"\xff"', b'"a\xed\xa0\x80"', b'"\xc0\xaf"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'{"\xff": 1}',
    # Nothing that Postgres has text for.
    rb'"\u0000"', rb'"a\u0000b"', b'"\0"', rb'"\ud800"', rb'"\uDFFF"', rb'"\udc00\ud800"', rb'{"\ud800": 1}',
    rb'{"a": {"\u0000": 1}}', rb'["a", "\uD83D "]',
    # No numbers, or none that others can read.
    b"1e999", b"-1e999", b"1E+999", b"1e-999", b"0e999", b"1.5e400000000000000000000", b"NaN", b"-NaN", b"Infinity",
    b"-Infinity", b"01", b"-01", b"+1", b".5", b"1.", b"1e", b"0x10", b"1_000", b"--1", b"\xd9\xa1",
    # No JSON.
    b"'a'", b'"', b'"\n"', rb'"\x41"', rb'"\u12"', b"[1", b"[1,]", b'{"a"}', b'{"a":1,}', b"{a:1}", b"tru", b"True",
    b"undefined", b"1 2", b"/**/1", b"<a/>", b"]", b"}",
    # Read by each in its own way.
    b'{"a": 1, "a": 2}', rb'{"a": 1, "\u0061": 2}', b'[{"b": {"a": 1, "a" : 1}}]',
    # Deep.
    b"[" * 101 + b"]" * 101, b'{"a":' * 200 + b"1" + b"}" * 200, b"[" * 50_000,
]  # fmt: skip
MARK = "\N{SKULL AND CROSSBONES}"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*path, name))


def poisoned(body: Any, path: tuple[Any, ...], poison: bytes) -> bytes:
    """The body with that in place of what is at the path."""
    if not path:
        return poison
    body = deepcopy(body)
    at = body
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = MARK
    return json.dumps(body, ensure_ascii=False).encode().replace(f'"{MARK}"'.encode(), poison)


@st.composite
def hostile_requests(draw: st.DrawFn) -> tuple[str, bytes, bytes]:
    """Method, path, and a body of that operation with a poison somewhere in it."""
    (method, path), body = draw(st.sampled_from(list(BODIES.items())))
    poison = draw(st.sampled_from(POISONS))
    for opening, closing in draw(
        st.lists(st.sampled_from([(b"[", b"]"), (b'{"z": ', b"}"), (b"[0, ", b"]")]), max_size=3)
    ):
        poison = opening + poison + closing
    place = draw(st.sampled_from(list(places(body))))
    return method, path, poisoned(body, place, poison.replace(b"\n", b"\t" if path == b"/tasks/stream" else b"\n"))


@DERANDOMIZED
@given(hostile_requests())
def test_a_poisoned_body_is_refused_by_every_operation(wire: Wire, request_: tuple[str, bytes, bytes]) -> None:
    method, path, body = request_
    wire.request(method, path, body).refused(400)


@pytest.mark.parametrize("poison", POISONS)
def test_every_poison_is_refused_wherever_a_body_has_any_json(wire: Wire, poison: bytes) -> None:
    wire.request("POST", b"/tasks", b'{"kind": "a", "payload": %s}' % poison).refused(400)
    wire.request("POST", b"/tasks", b'{"kind": "a", "metadata": {"b": %s}}' % poison).refused(400)
    wire.request(
        "POST", b"/tasks/batch", b'{"items": [{"kind": "a"}, {"kind": "a", "payload": [%s]}]}' % poison
    ).refused()
    taken = wire.request(
        "POST", b"/tasks/stream", b'{"kind": "a", "payload": %s}' % poison.replace(b"\n", b"\t")
    ).refused()
    assert taken["taken"] == {"lines": 0, "created": 0, "replayed": 0, "deduplicated": 0}


@DERANDOMIZED
@given(st.sampled_from(list(BODIES)), st.binary(min_size=1, max_size=200))
def test_bytes_at_random_are_refused(wire: Wire, operation: tuple[str, bytes], body: bytes) -> None:
    if body.strip() in (b"", b"{}", b"null"):
        body = b"\xff"
    wire.request(*operation, body).refused(400)


@DERANDOMIZED
@given(
    st.sampled_from(list(BODIES)),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1),
    ),
)
def test_json_of_another_shape_is_refused(wire: Wire, operation: tuple[str, bytes], value: Any) -> None:
    if value is None or isinstance(value, dict):
        value = [value] if operation[0] == "PATCH" or operation[1].endswith(b"cancel") else {"x": value}
    wire.request(*operation, json.dumps(value).encode()).refused(400)


@pytest.mark.parametrize("operation", BODIES)
def test_a_mark_of_the_byte_order_and_other_encodings_are_no_json(wire: Wire, operation: tuple[str, bytes]) -> None:
    body = json.dumps(BODIES[operation])
    for encoded in (
        b"\xef\xbb\xbf" + body.encode(),
        body.encode("utf-16"),
        body.encode("utf-16-le"),
        body.encode("utf-32"),
    ):
        assert wire.request(*operation, encoded).refused(400)["errors"][0]["field"] == "body"


BAD_TIMES = [
    "2026-05-01T12:00:00", "2026-05-01", "0000-05-01T12:00:00Z", "10000-05-01T12:00:00Z", "-0001-05-01T12:00:00Z",
    "2026-13-01T12:00:00Z", "2026-02-30T12:00:00Z", "2026-05-01T25:00:00Z", "2026-05-01T12:00:00+99:00", "infinity",
    "-infinity", "now", "epoch", "tomorrow", "1777777777", "", " ", "Z", "T",
]  # fmt: skip


@pytest.mark.parametrize("time", [*BAD_TIMES, 0, 1777777777, 1e300, True, {}, ["2026-05-01T12:00:00Z"]], ids=repr)
def test_what_is_no_moment_is_refused_by_the_name_of_its_field(wire: Wire, time: Any) -> None:
    def refused(method: str, path: bytes, body: Any) -> list[str]:
        problem = wire.request(method, path, json.dumps(body).encode()).refused(400)
        return [error["field"] for error in problem["errors"]]

    assert refused("POST", b"/tasks", {"kind": "a", "run_at": time}) == ["run_at"]
    assert refused("POST", b"/tasks/batch", {"items": [{"kind": "a", "run_at": time}]}) == ["items[0].run_at"]
    assert refused("POST", b"/tasks/stream", {"kind": "a", "run_at": time}) == ["run_at"]
    assert refused("PATCH", b"/tasks/1", {"run_at": time}) == ["run_at"]
    for name in ("created_after", "created_before", "finished_after", "finished_before"):
        body = {"action": "delete", "filter": {name: time}}
        assert refused("POST", b"/tasks/bulk", body) == [f"filter.{name}"]


@pytest.mark.parametrize("time", BAD_TIMES)
@pytest.mark.parametrize("name", ["created_after", "created_before", "finished_after", "finished_before"])
def test_no_list_is_of_what_is_no_moment(wire: Wire, name: str, time: str) -> None:
    problem = wire.request("GET", b"/tasks?%s=%s" % (name.encode(), quote_from_bytes(time.encode()).encode())).refused(
        400
    )
    assert [error["field"] for error in problem["errors"]] == [name]


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_a_time_that_leaves_the_years_of_four_digits_in_utc_is_refused(wire: Wire, time: str) -> None:
    for method, path, body, field in (
        ("POST", b"/tasks", {"kind": "a", "run_at": time}, "run_at"),
        ("POST", b"/tasks/batch", {"items": [{"kind": "a", "run_at": time}]}, "items[0].run_at"),
        ("POST", b"/tasks/stream", {"kind": "a", "run_at": time}, "run_at"),
        ("PATCH", b"/tasks/1", {"run_at": time}, "run_at"),
        ("POST", b"/tasks/bulk", {"action": "delete", "filter": {"created_after": time}}, "filter.created_after"),
        ("GET", b"/tasks?created_before=" + quote_from_bytes(time.encode()).encode(), None, "created_before"),
    ):
        problem = wire.request(method, path, json.dumps(body).encode() if body else b"").refused(400)
        assert [error["field"] for error in problem["errors"]] == [field]


HUGE = ["1" + "0" * 400, "-" + "9" * 400, str(2**63), str(-(2**63) - 1), "1e300", "-1e300", "9" * 5000]


@pytest.mark.parametrize("number", HUGE, ids=lambda number: number[:20])
def test_a_number_that_is_too_large_is_refused_by_the_name_of_its_field(wire: Wire, number: str) -> None:
    for (method, path), body in BODIES.items():
        for place in places(body):
            *_, name = place or (None,)
            if name in ("priority", "delay", "timeout", "max_attempts", "slots", "grace"):
                problem = wire.request(method, path, poisoned(body, place, number.encode())).refused(400)
                assert problem["errors"][0]["field"].endswith(name)
    for ids in (f"[{number}]", f"[1, {number}]"):
        body = b'{"action": "delete", "ids": %s}' % ids.encode()
        assert wire.request("POST", b"/tasks/bulk", body).refused(400)["errors"][0]["field"].startswith("ids")


# -- sizes ------------------------------------------------------------------------------------------------------------


def chunked(path: bytes, key: str, chunks: int, size: int = 64 * 1024) -> bytes:
    head = b"POST %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\ntransfer-encoding: chunked\r\n\r\n"
    return head % (path, key.encode()) + b"%x\r\n%s\r\n" % (size, b" " * size) * chunks + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "kib"), [(b"/tasks", 4096), (b"/tasks/batch", 4096), (b"/queues", 512), (b"/task", 512)]
)
def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(
    wire: Wire, served: tuple[Database, str, str], path: bytes, kib: int
) -> None:
    key = served[2]
    announced = b"POST %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\ncontent-length: %d\r\n\r\n"
    wire.send(announced % (path, key.encode(), kib * 1024 + 1)).refused(413)
    wire.send(chunked(path, key, kib // 64 + 1)).refused(413)


def test_a_line_that_is_too_long_is_refused(wire: Wire, served: tuple[Database, str, str]) -> None:
    wire.send(chunked(b"/tasks/stream", served[2], 40)).refused(413)


# -- paths and queries ------------------------------------------------------------------------------------------------

NO_NUMBERS = [
    b"0", b"-1", b"+1", b"1_0", b"01", b"1.0", b"1e0", b"0x1", b"%201", b"1%20", b"%D9%A1", b"%EF%BC%91", b"%00",
    b"%FF", b"9223372036854775808", b"1" + b"0" * 400, b"9" * 5000, b"NaN", b"true", b"1;2", b"1%0d%0aa:b", b"1%27--",
]  # fmt: skip


@pytest.mark.parametrize("number", NO_NUMBERS, ids=lambda number: number[:20])
def test_what_is_no_number_of_a_task_is_not_found(wire: Wire, number: bytes) -> None:
    for method, path in (
        ("GET", b"/tasks/%s"), ("GET", b"/tasks/%s/output"), ("GET", b"/tasks/%s/events"), ("GET", b"/task/%s"),
        ("PATCH", b"/tasks/%s"), ("DELETE", b"/tasks/%s"), ("POST", b"/tasks/%s/cancel"), ("POST", b"/tasks/%s/retry"),
    ):  # fmt: skip
        wire.request(method, path % number, b"{}" if method == "PATCH" else b"").refused(404)


@DERANDOMIZED
@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"/" not in name and name not in (b".", b"..")))
def test_what_is_no_queue_runner_or_type_of_problem_is_refused(wire: Wire, name: bytes) -> None:
    quoted = quote_from_bytes(b"~" + name).encode()
    for method, path in (
        ("GET", b"/queues/%s"), ("PATCH", b"/queues/%s"), ("DELETE", b"/queues/%s"), ("POST", b"/queues/%s/pause"),
        ("POST", b"/queues/%s/purge"), ("POST", b"/runners/%s/drain"), ("GET", b"/problems/%s"),
    ):  # fmt: skip
        wire.request(method, path % quoted, b"{}" if method == "PATCH" else b"").refused(400, 404)


STRANGE_TEXTS = [b"%00", b"a%00b", b"%FF", b"%C0%AF", b"%ED%A0%80", b"%F4%90%80%80", b"%E2%82"]
QUERIES = {
    b"/tasks": [b"queue", b"kind", b"tag", b"runner", b"error", b"cursor", b"status", b"limit", b"fields"],
    b"/stats/series": [b"window", b"step", b"queue"],
    b"/events": [b"queue", b"tasks"],
}


@pytest.mark.parametrize("text", STRANGE_TEXTS)
def test_a_query_that_is_no_text_is_refused_by_the_name_of_the_parameter(wire: Wire, text: bytes) -> None:
    for path, names in QUERIES.items():
        for name in names:
            problem = wire.request("GET", b"%s?%s=%s" % (path, name, text)).refused(400)
            assert [error["field"] for error in problem["errors"]] == [name.decode()]
            wire.request("GET", b"%s?%s=1" % (path, text)).refused(400)


@pytest.mark.parametrize(
    "query",
    [
        b"limit=0",
        b"limit=-1",
        b"limit=1.5",
        b"limit=",
        b"limit=NaN",
        b"limit=1&limit=2",
        b"limit[]=1",
        b"limit=%D9%A1",
        b"LIMIT=1",
        b"status=done",
        b"status=",
        b"status=failed,queued",
        b"fields=all",
        b"cursor=1",
        b"cursor=-1-00000000",
        b"cursor=9999999999999999999-00000000",
        b"cursor=1-0000000g",
        b"error=" + b"a" * 201,
        b"tag=a&tag=a",
        b"a",
        b"=",
        b"=a",
        b"&&a=b",
        b"queue=a;kind=b&x=y",
        b"%5B=1",
        b"x" * 30000,
    ],
    ids=lambda query: query[:30],
)
def test_a_query_that_no_list_has_is_refused(wire: Wire, query: bytes) -> None:
    wire.request("GET", b"/tasks?" + query).refused(400)


@DERANDOMIZED
@given(st.binary(min_size=1, max_size=30))
def test_a_parameter_at_random_is_refused(wire: Wire, name: bytes) -> None:
    for path in (*QUERIES, b"/queues", b"/tasks/1", b"/problems", b"/stats"):
        wire.request("GET", b"%s?~%s=1" % (path, quote_from_bytes(name).encode())).refused(400)


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b'"',
        b'"a',
        b"a b",
        b'""',
        b"x" * 201,
        b'"' + b"x" * 201 + b'"',
        b"\xff",
        b"\xd0\xb9",
        b'"\\x"',
        b"a\tb",
    ],
)
def test_an_idempotency_key_that_is_none_is_refused(wire: Wire, key: bytes) -> None:
    for path, body in ((b"/tasks", b'{"kind": "a"}'), (b"/tasks/stream", b'{"kind": "a"}')):
        problem = wire.request("POST", path, body, {b"idempotency-key": key}).refused(400)
        assert [error["field"] for error in problem["errors"]] == ["Idempotency-Key"]


@DERANDOMIZED
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=100))
def test_a_header_at_random_is_ignored_or_refused_and_never_a_fault(wire: Wire, value: str) -> None:
    raw = value.encode("latin-1").strip()
    for name in (b"authorization", b"idempotency-key", b"cookie"):
        if name == b"authorization":
            wire.request("POST", b"/tasks", b'{"kind": "a"}', {name: raw}).refused(401)
        else:  # refused for its body, or for that before
            wire.request("POST", b"/tasks", b"{}", {name: raw}).refused(400)
    for name in (
        b"prefer",
        b"if-none-match",
        b"last-event-id",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"traceparent",
    ):
        for path in (b"/tasks/4711", b"/tasks/4711/events"):
            wire.request("GET", path, b"", {name: raw}).refused(404)
    for name in (b"accept", b"content-type", b"accept-encoding", b"origin", b"x-request-id", b"forwarded", b"te"):
        wire.request("POST", b"/tasks", b"{", {name: raw}).refused(400)


@pytest.mark.parametrize(
    "prefer", [b"wait=-1", b"wait=1e9", b"wait=\xff", b"wait", b"wait==1", b"wait=1s", b"wait='1'"]
)
def test_a_wait_that_is_none_waits_for_nothing(wire: Wire, prefer: bytes) -> None:
    answer = wire.request("GET", b"/tasks/1", b"", {b"prefer": prefer})
    assert (answer.status, answer.headers["preference-applied"]) == (200, None)


HOST = b" HTTP/1.1\r\nhost: x\r\n"
GET, POST = b"GET /nope" + HOST, b"POST /tasks" + HOST


@pytest.mark.parametrize(
    "raw",
    [
        b"GET\r\n\r\n",
        b"\0\r\n\r\n",
        b"GET /tasks\r\n\r\n",
        b"GET  /tasks HTTP/1.1\r\n\r\n",
        b"G\xffT /nope" + HOST + b"\r\n",
        b"GET /\xff" + HOST + b"\r\n",
        b"GET /\0" + HOST + b"\r\n",
        b"GET /nope HTTP/1.1\r\n\r\n",
        b"GET /nope HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /" + b"a" * 70_000 + HOST + b"\r\n",
        GET + b"a: " + b"b" * 70_000 + b"\r\n\r\n",
        GET + b"host: y\r\n\r\n",
        GET + b"no colon\r\n\r\n",
        GET + b": a\r\n\r\n",
        GET + b"a b: c\r\n\r\n",
        GET + b"a : c\r\n\r\n",
        POST + b"idempotency-key: a\0b\r\n\r\n",
        POST + b"idempotency-key: a\rb: c\r\n\r\n",
        POST + b"prefer: \x01\r\n\r\n",
        POST + b"content-length: -1\r\n\r\n",
        POST + b"content-length: a\r\n\r\n",
        POST + b"content-length: 1e1\r\n\r\n",
        POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"content-length: 9" + b"9" * 30 + b"\r\n\r\n",
        POST + b"transfer-encoding: gzip\r\n\r\n",
        POST + b"transfer-encoding: chunked, chunked\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda raw: raw[:50],
)
def test_what_is_no_http_is_refused_as_everything_else_is(wire: Wire, raw: bytes) -> None:
    wire.send(raw).refused(400, 401, 404)


def test_a_chunk_that_is_none_ends_a_request_and_stores_nothing(wire: Wire, served: tuple[Database, str, str]) -> None:
    head = POST + b"authorization: Bearer %s\r\ntransfer-encoding: chunked\r\n\r\n" % served[2].encode()
    wire.send(head + b'd\r\n{"kind": "a"}\r\nzz\r\n').refused(400)


@pytest.mark.parametrize(
    "name", ["a\r\nset-cookie: b=c", "a\nb", "a\r\n\r\n<html>", "%0d%0aa:b", "a b", "A", "../a", "ä"]
)
def test_no_name_becomes_a_header(wire: Wire, name: str) -> None:
    answer = wire.request("POST", b"/queues", json.dumps({"name": name}).encode())
    assert answer.refused(400)["errors"][0]["field"] == "name"
    assert (answer.headers["set-cookie"], answer.headers["location"]) == (None, None)
