"""Whatever goes wrong leaves as a problem document."""

import re

import httpx
import pytest
from lockgate_service.http.errors import CONSTRAINT_FIELDS
from lockgate_service.http.problems import KINDS
from psycopg.errors import CheckViolation

from tests.database import Database


@pytest.mark.parametrize("path", ["/nope", "/tasks/one", "/docs/nope.json/x"])
def test_an_unknown_path_is_not_found(refusing: httpx.Client, path: str) -> None:
    response = refusing.get(path)

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.json()) == {"type", "title", "status", "detail"}


def test_another_method_is_not_allowed_and_those_that_are_are_named(refusing: httpx.Client) -> None:
    response = refusing.delete("/tasks")

    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert {"GET", "POST"} <= set(response.headers["allow"].split(", "))


def test_options_names_every_method_of_a_path(refusing: httpx.Client) -> None:
    for path, methods in (("/queues", {"GET", "POST"}), ("/tasks/1", {"GET", "PATCH", "DELETE"}), ("/stats", {"GET"})):
        response = refusing.options(path)
        assert response.status_code == 204
        assert set(response.headers["allow"].split(", ")) == methods | {"OPTIONS"}


def test_a_fault_of_ours_tells_nothing_but_that_it_is_one(http: httpx.Client, db: Database) -> None:
    db.query(
        "create or replace function lockgate.schema_version() returns int language plpgsql security definer "
        "as $$ begin raise exception 'secret' using errcode = 'P0001'; end $$"
    )

    response = http.get("/health/ready")

    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text


def test_every_constraint_with_a_field_is_in_the_schema(db: Database) -> None:
    """A constraint that is renamed there would be about `body` here."""
    constraints = {row[0] for row in db.query("select conname from pg_constraint where contype = 'c'")}
    raised = db.value("select string_agg(prosrc, ' ') from pg_proc where pronamespace = 'lockgate'::regnamespace")
    for what, kib in re.findall(r"check_size\('([a-z ]+)', .*?, ([0-9]+)\)", raised):
        with pytest.raises(CheckViolation) as refused:
            db.query("select lockgate.check_size(%s, %s, %s)", what, 1024 * int(kib) + 1, int(kib))
        constraints.add(refused.value.diag.constraint_name)

    assert [name for name in CONSTRAINT_FIELDS if name not in constraints and name not in raised] == []


def test_a_limit_that_only_the_schema_knows_is_refused_by_the_sentence_that_names_it(
    http: httpx.Client, db: Database
) -> None:
    db.query("alter domain lockgate.priority drop constraint priority_is_between_minus_100_and_100")
    db.query("alter domain lockgate.priority add constraint priority_is_between_minus_100_and_100 check (value < 5)")

    response = http.post("/tasks", json={"kind": "sleep", "priority": 5})

    assert response.status_code == 400
    assert response.json()["errors"] == [{"field": "priority", "message": "priority is between minus 100 and 100"}]


# -- what the types mean ----------------------------------------------------------------------------------------------


def test_every_type_is_explained_where_it_leads(refusing: httpx.Client) -> None:
    for name, kind in KINDS.items():
        explained = refusing.get(f"/problems/{name}")
        assert explained.status_code == 200
        assert (explained.json()["title"], explained.json()["name"]) == (kind.title, name)
        assert len(explained.json()["explanation"]) > 20
    assert [one["name"] for one in refusing.get("/problems").json()["items"]] == list(KINDS)
    assert refusing.get("/problems/none").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nope"), ("DELETE", "/tasks"), ("GET", "/tasks?nope=1"), ("GET", "/tasks/0"), ("GET", "/docs/nope")],
)
def test_the_type_of_an_error_leads_to_its_meaning(refusing: httpx.Client, method: str, path: str) -> None:
    refused = refusing.request(method, path)
    assert refused.headers["content-type"] == "application/problem+json"
    explained = refusing.get(refused.json()["type"])
    assert explained.json()["status"] == refused.status_code


def test_names_of_types_stay() -> None:
    """Clients ask for them. One that is added is added here; none is taken away within a major version."""
    assert set(KINDS) == {
        "invalid-input", "unauthenticated", "forbidden", "not-found", "method-not-allowed", "too-large", "too-slow",
        "idempotency-key-reused", "queue-full", "internal-error", "unavailable", "already-ended", "wrong-status",
        "dedupe-key-taken", "queue-exists", "queue-in-use", "http-error",
    }  # fmt: skip
