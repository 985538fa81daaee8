"""POST /tasks/stream."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lockgate_service.tasks import batch

from tests.contract import Contract, until
from tests.database import Database
from tests.service.conftest import Process, ProcessStart, opened, serving
from tests.service.test_lost_answers import blocked

LINE = b'{"kind": "sleep"}\n'
HEAD = b"POST /tasks/stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def answer(connection: socket.socket) -> tuple[int, Any]:
    connection.settimeout(30)
    said = b""
    while more := connection.recv(65536):
        said += more
        head, found, body = said.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            break
    return int(said.split()[1]), json.loads(said.partition(b"\r\n\r\n")[2])


def taken(lines: int, **counts: int) -> dict[str, int]:
    return {"lines": lines, "created": 0, "replayed": 0, "deduplicated": 0} | counts


def test_every_line_is_a_task(http: httpx.Client, q: Contract) -> None:
    lines = [b'{"kind": "a", "payload": {"n": %d}}' % n for n in range(2500)]
    lines[1200] = b"  \r"

    response = http.post("/tasks/stream", content=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"})

    assert (response.status_code, response.json()) == (200, taken(2500, created=2499))
    assert [task.payload["n"] for task in q.tasks()] == [n for n in range(2500) if n != 1200]


@pytest.mark.parametrize(("body", "lines"), [(b"", 0), (b"\n", 1), (b"\n\n \n", 3)])
def test_nothing_makes_nothing(refusing: httpx.Client, body: bytes, lines: int) -> None:
    assert refusing.post("/tasks/stream", content=body).json() == taken(lines)


def test_lines_may_come_in_pieces(http: httpx.Client, q: Contract) -> None:
    def pieces() -> Iterator[bytes]:
        for byte in LINE * 20:
            yield bytes([byte])

    assert http.post("/tasks/stream", content=pieces()).json() == taken(20, created=20)


@pytest.mark.parametrize(
    ("bad", "status", "field"),
    [
        (b"{", 400, "body"),
        (b'{"kind": ""}', 400, "kind"),
        (b'{"kind": "a", "queue": "nosuch"}', 400, "queue"),
        (b'{"kind": "a", "payload": "%s"}' % (b"x" * 1_048_576), 400, "payload"),
        (b'{"kind": "a", "payload": "\xff"}', 400, "payload"),
        (b'{"kind": "a", "delay": 1, "run_at": "2030-01-01T00:00:00Z"}', 400, "delay"),
        (b'{"kind": "b", "idempotency_key": "k"}', 422, None),
        (b'"%s"' % (b"x" * batch.LINE_BYTES_MAX), 400, "body"),
        (b'"%s"' % (b"x" * 2 * batch.LINE_BYTES_MAX), 413, None),
    ],
    ids=lambda value: value[:50] if isinstance(value, bytes) else None,
)
def test_it_stops_at_a_bad_line_and_all_before_it_is_stored(
    http: httpx.Client, q: Contract, bad: bytes, status: int, field: str | None
) -> None:
    q.submit(kind="a", idempotency_key="k")

    response = http.post("/tasks/stream", content=LINE * 1100 + b"\n" + LINE + b"\n" + bad + b"\n" + LINE * 3)

    assert response.status_code == status, response.text
    problem = response.json()
    assert problem["taken"] == taken(1103, created=1101)
    if status != 413:
        assert problem["detail"].startswith("line 1104: ")
    if field:
        assert [error["field"] for error in problem["errors"]] == [field]
    assert len(q.tasks()) == 1102


def test_one_goes_on_after_the_lines_that_were_taken(http: httpx.Client, q: Contract) -> None:
    bad = b'{"kind": "a", "priority": 1000}\n'
    first = http.post("/tasks/stream", content=LINE * 5 + bad + LINE * 5).json()["taken"]
    again = http.post(f"/tasks/stream?skip={first['lines']}", content=LINE * 11)

    assert (first["lines"], again.json()) == (5, taken(11, created=6))
    assert len(q.tasks()) == 11


def test_with_a_key_the_same_lines_can_be_sent_again(http: httpx.Client, q: Contract) -> None:
    key = {"Idempotency-Key": "import-7"}
    own = b'{"kind": "sleep", "idempotency_key": "own"}\n'
    http.post("/tasks/stream", content=LINE * 5 + own, headers=key)
    again = http.post("/tasks/stream", content=LINE * 5 + own + LINE, headers=key)
    other = http.post("/tasks/stream", content=LINE * 2 + b'{"kind": "other"}', headers=key)

    assert again.json() == taken(7, created=1, replayed=6)
    assert (other.status_code, other.json()["taken"]) == (422, taken(2, replayed=2))
    assert [task.idempotency_key for task in q.tasks()] == [f"import-7:{n}" for n in range(1, 6)] + [
        "own",
        "import-7:7",
    ]


def test_too_long_a_key_and_a_wrong_skip_are_refused(refusing: httpx.Client) -> None:
    assert refusing.post("/tasks/stream", headers={"Idempotency-Key": "x" * 181}).status_code == 400
    assert refusing.post("/tasks/stream?skip=-1").status_code == 400


def test_what_has_come_is_stored_though_no_more_comes(process: ProcessStart, db: Database, q: Contract) -> None:
    one = serving(process, db.service)
    with opened(one.url, HEAD + chunk(LINE * 3 + b'{"kind"')) as connection:
        until(lambda: len(q.tasks()) == 3, "three tasks")
        connection.sendall(chunk(b': "x"}') + chunk(b""))
        assert answer(connection) == (200, taken(4, created=4))


def test_a_stream_that_falls_silent_is_told_how_far_it_came(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(batch, "DRAIN_SECONDS", 0.1)
    with opened(str(http.base_url), HEAD + chunk(LINE * 3)) as connection:
        status, problem = answer(connection)

    assert (status, problem["type"]) == (408, "/problems/too-slow")
    assert problem["taken"] == taken(3, created=3)


def test_a_service_that_stops_says_how_far_it_came(process: ProcessStart, db: Database, q: Contract) -> None:
    one = serving(process, db.service)
    with opened(one.url, HEAD + chunk(LINE * 3 + b'{"ki')) as connection:
        until(lambda: len(q.tasks()) == 3, "three tasks")
        one.popen.terminate()
        status, problem = answer(connection)
        assert (status, problem["taken"]) == (503, taken(3, created=3))
        assert one.ended() == (0, "")


def test_more_streams_than_can_be_read_are_refused(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "STREAMS_MAX", 0)

    assert http.post("/tasks/stream", content=LINE).status_code == 503


def resident(one: Process) -> float:
    """MiB."""
    pages = int(Path(f"/proc/{one.popen.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1024 / 1024


def until_full(connection: socket.socket, content: bytes) -> int:
    """Sends this again and again until nothing goes any more; how often it went."""
    connection.settimeout(1)
    for times in range(200):
        try:
            connection.sendall(content)
        except TimeoutError:
            return times
    raise AssertionError("all of it went")


def test_a_long_stream_takes_no_more_memory_than_a_short_one_and_waits_for_the_database(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    one = serving(process, db.service)
    line = b'{"kind": "sleep", "payload": "%s"}\n' % (b"x" * 1000)
    httpx.post(f"{one.url}/tasks/stream", content=line * 3000, timeout=60)
    before = resident(one)
    locker = db.connect("admin")
    with opened(one.url, HEAD) as connection, locker.transaction():
        locker.execute("lock table lockgate.task")
        assert 0 < until_full(connection, chunk(line * 1000)) < 100
        assert blocked(db) == 1
        assert resident(one) < before + 30
    until(lambda: db.value("select count(*) > 3000 from lockgate.task"), "what came to be stored")


def test_a_hundred_thousand_lines(process: ProcessStart, db: Database) -> None:
    one = serving(process, db.service)

    def lines() -> Iterator[bytes]:
        for n in range(100):
            yield b"".join(b'{"kind": "sleep", "payload": {"n": %d}}\n' % (n * 1000 + m) for m in range(1000))

    before = resident(one)
    begin = time.monotonic()
    response = httpx.post(f"{one.url}/tasks/stream", content=lines(), timeout=110)
    print(f"{100_000 / (time.monotonic() - begin):.0f}/s, {before:.0f} -> {resident(one):.0f} MiB")  # noqa: T201

    assert response.json() == taken(100_000, created=100_000)
    assert db.value("select count(distinct (payload ->> 'n')::int) from lockgate.task") == 100_000
    assert resident(one) < before + 40


def test_a_stream_through_a_service_that_is_killed_is_whole_when_it_is_sent_again(
    process: ProcessStart, db: Database
) -> None:
    """Twice, in the middle of a transaction perhaps; the third time nothing happens."""
    body = b"".join(b'{"kind": "sleep", "payload": {"n": %d}}\n' % n for n in range(30_000))
    key = {"Idempotency-Key": "import"}
    stored = "select count(*) from lockgate.task"
    for least in (2_000, 9_000):
        one = serving(process, db.service)
        request = (
            f"POST /tasks/stream HTTP/1.1\r\nHost: x\r\nIdempotency-Key: import\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with opened(one.url, request.encode()) as connection:
            sending = threading.Thread(target=send, args=(connection, body))
            sending.start()
            until(lambda least=least: db.value(stored) > least, f"{least} tasks", 60)  # type: ignore[misc]
            one.popen.kill()
            sending.join(20)
    one = serving(process, db.service)
    response = httpx.post(f"{one.url}/tasks/stream", content=body, headers=key, timeout=100)

    assert response.json()["lines"] == response.json()["created"] + response.json()["replayed"] == 30_000
    assert db.value("select count(distinct (payload ->> 'n')::int) from lockgate.task") == 30_000
    assert db.value(stored) == 30_000


def send(connection: socket.socket, body: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(body)
