"""POST /tasks/{id}/cancel."""

import httpx
import pytest

from tests.contract import Contract


@pytest.mark.parametrize("status", ["queued", "scheduled"])
def test_a_waiting_task_is_cancelled_at_once(http: httpx.Client, q: Contract, status: str) -> None:
    number = q.row(status)

    response = http.post(f"/tasks/{number}/cancel")

    assert response.status_code == 200
    assert (response.json()["id"], response.json()["status"]) == (number, "cancelled")


def test_a_cancelled_task_may_be_cancelled_again(http: httpx.Client, q: Contract) -> None:
    number = q.row("cancelled")

    assert http.post(f"/tasks/{number}/cancel").status_code == 200


@pytest.mark.parametrize(
    ("body", "mode"), [(b"", "graceful"), (b"{}", "graceful"), (b"null", "graceful"), (b'{"force": true}', "force")]
)
def test_a_running_task_is_asked_to_stop(http: httpx.Client, q: Contract, body: bytes, mode: str) -> None:
    number = q.row("running")

    response = http.post(f"/tasks/{number}/cancel", content=body)

    assert response.status_code == 202
    assert (response.json()["status"], response.json()["cancel_requested"]) == ("running", mode)


def test_asking_again_with_force_is_heard_and_asking_less_is_not(http: httpx.Client, q: Contract) -> None:
    number = q.row("running")

    modes = [
        http.post(f"/tasks/{number}/cancel", json={"force": force}).json()["cancel_requested"]
        for force in (False, True, False)
    ]

    assert modes == ["graceful", "force", "force"]


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_task_that_has_ended_otherwise_stays_as_it_is(http: httpx.Client, q: Contract, status: str) -> None:
    before = q.task(q.row(status))

    response = http.post(f"/tasks/{before.id}/cancel")

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/already-ended"
    assert status in response.json()["detail"]
    assert q.task(before.id) == before


@pytest.mark.parametrize("number", [1, 9223372036854775808])
def test_a_task_that_is_not_there_cannot_be_cancelled(refusing: httpx.Client, number: int) -> None:
    assert refusing.post(f"/tasks/{number}/cancel").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"), [(b'{"forse": true}', "forse"), (b'{"force": 1}', "force"), (b"[]", "body")]
)
def test_a_wrong_body_is_refused_and_nothing_is_cancelled(
    http: httpx.Client, q: Contract, body: bytes, field: str
) -> None:
    number = q.row()

    response = http.post(f"/tasks/{number}/cancel", content=body)

    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, field)
    assert q.task(number).status == "queued"
