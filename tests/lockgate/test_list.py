"""`lockgate list`: which tasks, in which order, in which form."""

import json

import pytest

from lockgate.commands.table import fitting
from tests.contract import Contract
from tests.database import Database
from tests.lockgate.ask import ask


def numbers(db: Database, *words: object) -> list[int]:
    """The tasks it lists."""
    said = ask(db, "list", *words)
    assert said.exit_code == 0, said.output
    found = [int(row.split()[0]) for row in said.stdout.splitlines()[1:]]
    assert numbers_of_json(db, *words) == found
    return found


def numbers_of_json(db: Database, *words: object) -> list[int]:
    return [json.loads(row)["id"] for row in ask(db, "list", "--json", *words).stdout.splitlines()]


def test_the_newest_come_first_up_to_a_limit(q: Contract, db: Database) -> None:
    tasks = [q.submit() for _ in range(25)]
    assert numbers(db) == tasks[:4:-1]
    assert numbers(db, "--limit", 3) == tasks[:21:-1]
    assert "1<=x<=10000" in ask(db, "list", "--limit", 0).stderr


def test_only_those_asked_for_are_listed(q: Contract, db: Database) -> None:
    q.queue("other")
    queued, failed, elsewhere = q.submit(tags=["a", "b"]), q.row("failed", tags=["a"]), q.submit("resize", "other")
    assert numbers(db, "--status", "failed") == [failed]
    assert numbers(db, "--status", "failed", "--status", "queued") == [elsewhere, failed, queued]
    assert numbers(db, "--queue", "other") == numbers(db, "--kind", "resize") == [elsewhere]
    assert numbers(db, "--tag", "a") == [failed, queued]
    assert numbers(db, "--tag", "a", "--tag", "b") == [queued]
    assert numbers(db, "--kind", "none such") == []


def test_the_lines_are_aligned_and_say_what_matters(q: Contract, db: Database) -> None:
    q.row("failed", exec_time=75)
    q.submit("a-longer-kind", delay=7200)
    heads, scheduled, failed = ask(db, "list").stdout.splitlines()
    assert heads.split() == ["task", "queue", "kind", "status", "attempt", "age", "took", "remark"]
    begin = heads.index("remark")
    assert scheduled[begin:] == "due in 2 h"
    assert failed[begin:] == "Boom: it went wrong"
    assert failed.split()[4] == "1/3"
    assert " 75 s " in failed


def test_json_has_everything_there_is_to_a_task(q: Contract, db: Database) -> None:
    q.submit(payload={"é": [1.50]}, metadata={"by": "me"})
    [row] = map(json.loads, ask(db, "list", "--json").stdout.splitlines())
    assert set(row) == {name for (name,) in db.query("select attname from pg_attribute where attrelid = "
                                                     "'lockgate.task_detail'::regclass and attnum > 0")}  # fmt: skip
    assert (row["payload"], row["metadata"], row["status"]) == ({"é": [1.5]}, {"by": "me"}, "queued")


def test_what_a_kind_or_an_error_says_cannot_reach_the_terminal(q: Contract, db: Database) -> None:
    q.row("failed", kind="\x1b[31mred\n", error={"type": "\x1b]0;title\x07", "message": "x"})
    shown = ask(db, "list").stdout
    assert "\x1b" not in shown
    assert shown.count("\n") == 2


@pytest.mark.parametrize(
    ("widths", "room", "fit"),
    [([5, 10], 20, [5, 10]), ([5, 10], 12, [5, 7]), ([5, 10, 9], 12, [4, 4, 4]), ([3, 3], 1, [1, 1])],
)
def test_the_widest_columns_make_room(widths: list[int], room: int, fit: list[int]) -> None:
    assert fitting(widths, room) == fit
