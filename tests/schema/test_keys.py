"""Keys of the API: made, in force, used, revoked."""

import hashlib
from typing import Any

import pytest
from psycopg import errors

from tests.contract import Contract
from tests.database import Database

DIGEST = hashlib.sha256(b"secret").digest()


def add(db: Database, name: str, number: int = 1, **given: Any) -> None:
    named = "".join(f", {field} => %s" for field in given)
    db.query(
        f"select lockgate.add_key(lpad(%s::text, 12, 'k'), %s, %s, 'submit'{named})",
        *(number, name, DIGEST, *given.values()),
    )


def in_force(db: Database) -> list[tuple[Any, ...]]:
    return db.query("select owner, scope::text, queue from lockgate.keys_in_force() order by id")


def test_a_key_is_in_force_until_it_is_revoked(db: Database) -> None:
    assert db.value("select lockgate.has_keys()") is False
    add(db, "web")
    assert in_force(db) == [("web", "submit", None)]
    assert db.value("select lockgate.revoke_key('web')") is True
    assert in_force(db) == []
    assert db.value("select lockgate.revoke_key('web')") is False
    assert db.value("select lockgate.has_keys()") is True


def test_a_name_is_in_force_once_and_free_again_after_that(db: Database) -> None:
    add(db, "web")
    with pytest.raises(errors.UniqueViolation, match='there is a key "web" already'):
        add(db, "web", 2)
    db.query("select lockgate.revoke_key('web')")
    add(db, "web", 2)
    assert db.query("select id, revoke_time is null from lockgate.key_overview where name = 'web' order by id") == [
        ("kkkkkkkkkkk1", False),
        ("kkkkkkkkkkk2", True),
    ]


def test_a_key_has_an_owner_and_perhaps_a_queue(q: Contract) -> None:
    q.db.query("select lockgate.create_queue('gpu')")
    add(q.db, "web-2", owner="web", queue="gpu")
    assert in_force(q.db) == [("web", "submit", "gpu")]


@pytest.mark.parametrize(
    ("given", "constraint"),
    [
        ({"name": ""}, "a_key_name_is_short_and_plain"),
        ({"name": "a b"}, "a_key_name_is_short_and_plain"),
        ({"name": "w" * 64}, "a_key_name_is_short_and_plain"),
        ({"name": "web", "owner": ""}, "an_owner_is_short_and_plain"),
    ],
)
def test_what_a_key_cannot_be_called(db: Database, given: dict[str, Any], constraint: str) -> None:
    with pytest.raises(errors.CheckViolation) as refused:
        add(db, **given)
    assert refused.value.diag.constraint_name == constraint


def test_a_secret_itself_cannot_be_stored(db: Database) -> None:
    """Only something of the length of its digest."""
    with pytest.raises(errors.CheckViolation, match="a_digest_has_32_bytes"):
        db.query("select lockgate.add_key('aaaaaaaaaaaa', 'web', 'lockgate_secret', 'read')")


def test_an_id_has_one_form(db: Database) -> None:
    with pytest.raises(errors.CheckViolation, match="a_key_id_is_12_letters_and_digits"):
        db.query("select lockgate.add_key('AAAAAAAAAAAA', 'web', %s, 'read')", DIGEST)


def test_a_queue_that_is_not_there_is_refused(db: Database) -> None:
    with pytest.raises(Exception, match='there is no queue "gpu"') as refused:
        add(db, "web", queue="gpu")
    assert getattr(refused.value, "sqlstate", None) == "LG001"


def test_with_its_queue_a_key_is_gone_for_good(q: Contract) -> None:
    q.queue("gpu")
    q.queue("mail")
    for number, (name, queue) in enumerate({"gpu": "gpu", "mail": "mail", "all": None}.items()):
        add(q.db, name, number, queue=queue)
    q.db.query("select lockgate.delete_queue('gpu')")
    q.queue("gpu")
    assert [queue for _, _, queue in in_force(q.db)] == ["mail", None]
    add(q.db, "gpu", 3, queue="gpu")


def test_there_are_at_most_1000_keys(db: Database) -> None:
    db.query(
        "select lockgate.add_key(lpad(i::text, 12, 'k'), 'key-' || i, %s, 'read') from generate_series(1, 1000) i",
        DIGEST,
    )
    with pytest.raises(errors.CheckViolation, match="there are 1000 keys already"):
        add(db, "web", 5000)
    db.query("select lockgate.revoke_key('key-7')")
    add(db, "web", 5000)


def test_a_use_is_noted_at_most_every_half_minute(db: Database) -> None:
    add(db, "web")
    add(db, "other", 2)

    def note() -> Any:
        db.query("select lockgate.note_key_use('{kkkkkkkkkkk1}')")
        return db.value("select last_used from lockgate.api_key where name = 'web'")

    first = note()
    assert first is not None
    assert note() == first
    db.query("update lockgate.api_key set last_used = now() - interval '1 minute' where name = 'web'")
    assert note() > first
    assert db.value("select last_used from lockgate.api_key where name = 'other'") is None


def test_idempotency_keys_of_one_batch_can_be_of_several_owners(q: Contract) -> None:
    batch = (
        '[{"kind": "sleep", "idempotency_key": "k", "idempotency_scope": "a"},'
        ' {"kind": "sleep", "idempotency_key": "k", "idempotency_scope": "b"},'
        ' {"kind": "sleep", "idempotency_key": "k"}]'
    )
    ask = "select task, outcome::text from lockgate.submit_batch(%s::jsonb, 'c') order by item"
    first = q.db.query(ask, batch)
    assert [outcome for _, outcome in first] == ["created"] * 3
    assert q.db.query(ask, batch) == [(task, "replayed") for task, _ in first]
    assert q.db.query("select idempotency_scope from lockgate.task order by id") == [("a",), ("b",), ("c",)]
