"""`lockgate keys`: what it says, and what it leaves in the database."""

import hashlib
import json
import re

from tests.database import Database
from tests.lockgate.ask import Away, ask, line


def test_a_key_is_shown_once_and_only_its_digest_is_kept(db: Database) -> None:
    made = ask(db, "keys", "add", "web")

    assert made.exit_code == 0
    key = made.stdout.strip()
    assert re.fullmatch(r"lockgate_[a-z0-9]{12}_[A-Za-z0-9]{43}", key)
    assert made.stderr == "lockgate: key web is made: scope submit. It is not shown again.\n"
    [row] = db.query("select id, name, owner, digest, scope::text, queue from lockgate.api_key")
    assert row == (key.split("_")[1], "web", "web", hashlib.sha256(key.encode()).digest(), "submit", None)
    secret = key.split("_")[2]
    assert secret not in str(db.query("select to_json(k)::text from lockgate.api_key k"))
    assert secret not in ask(db, "keys", "list", "--json").stdout


def test_no_two_keys_are_the_same(db: Database) -> None:
    assert len({ask(db, "keys", "add", f"key-{number}").stdout for number in range(5)}) == 5


def test_a_key_can_be_limited_and_have_an_owner(db: Database) -> None:
    db.query("select lockgate.create_queue('gpu')")
    made = ask(db, "keys", "add", "web-2", "--scope", "read", "--queue", "gpu", "--owner", "web")

    assert made.stderr == "lockgate: key web-2 is made: scope read, for queue gpu only. It is not shown again.\n"
    assert db.query("select scope::text, queue, owner from lockgate.key_overview") == [("read", "gpu", "web")]


def test_keys_are_listed_and_revoked_ones_only_when_asked_for(db: Database) -> None:
    ask(db, "keys", "add", "old", "--scope", "admin")
    ask(db, "keys", "add", "web")
    assert ask(db, "keys", "revoke", "old").output == "key old is revoked\n"

    assert ask(db, "keys").output.splitlines()[0] == ask(db, "keys", "list").output.splitlines()[0]
    head, *rows = ask(db, "keys", "list").output.splitlines()
    assert head.split() == ["key", "scope", "queue", "owner", "age", "last", "used", "remark"]
    assert [row.split()[:4] for row in rows] == [["web", "submit", "all", "web"]]
    both = ask(db, "keys", "list", "--all").output.splitlines()[1:]
    assert [(row.split()[0], row.split()[-1]) for row in both] == [("web", "never"), ("old", "revoked")]
    db.query("update lockgate.api_key set last_used = now() - interval '5 minutes'")
    assert "5 min ago" in ask(db, "keys").output


def test_lists_are_for_programs_too(db: Database) -> None:
    ask(db, "keys", "add", "web")
    [found] = map(json.loads, ask(db, "keys", "list", "--json").output.splitlines())
    assert (found["name"], found["scope"], found["last_used"]) == ("web", "submit", None)
    assert "digest" not in found


def test_what_cannot_be_done_is_one_clear_line(db: Database) -> None:
    ask(db, "keys", "add", "web")
    assert line(ask(db, "keys", "add", "web")) == 'there is a key "web" already'
    assert line(ask(db, "keys", "add", "other", "--queue", "gpu")).startswith('there is no queue "gpu"')
    assert "short and plain" in line(ask(db, "keys", "add", "a b"))
    assert line(ask(db, "keys", "revoke", "none")) == 'there is no key "none" in force'
    assert ask(db, "keys", "add", "all", "--scope", "everything").exit_code == 2
    with Away(db):
        line(ask(db, "keys", "list"))
