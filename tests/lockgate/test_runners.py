"""`lockgate runners`: shown, drained, resumed."""

import json

from tests.contract import Contract
from tests.database import Database
from tests.lockgate.ask import ask, line


def test_those_that_live_are_shown_with_what_they_serve(q: Contract, db: Database) -> None:
    q.runner("gone").die()
    q.submit()
    q.runner("web-1", concurrency=3).work()
    q.runner("gpu-1", queues=["gpu", "default"], host="there", pid=7)
    heads, web, gpu = (" ".join(row.split()) for row in ask(db, "runners").stdout.splitlines())
    assert heads == "runner host pid slots running queues since remark"
    assert web.startswith("web-1 here 1 3 1 all ")
    assert gpu.startswith("gpu-1 there 7 1 0 gpu, default ")
    rows = [json.loads(row) for row in ask(db, "runners", "--json").stdout.splitlines()]
    assert [(row["runner"], row["running"], row["draining"]) for row in rows] == [
        ("web-1", 1, False),
        ("gpu-1", 0, False),
    ]


def test_one_is_drained_and_resumed(q: Contract, db: Database) -> None:
    q.submit()
    runner = q.runner("web-1")
    claimed = runner.work()
    assert ask(db, "runners", "drain", "web-1").stdout == "runner web-1 takes no more tasks; 1 still running\n"
    assert ask(db, "runners").stdout.splitlines()[1].endswith("draining")
    assert "1 runner, 1 draining" in ask(db, "status", "--once").stdout
    runner.finish(claimed)
    assert ask(db, "runners").stdout.splitlines()[1].endswith("drained")
    assert ask(db, "runners", "resume", "web-1").stdout == "runner web-1 takes tasks again\n"
    assert q.db.value("select draining from lockgate.runner_overview") is False


def test_one_that_is_not_there_is_refused(db: Database) -> None:
    assert line(ask(db, "runners", "drain", "nosuch")) == 'there is no runner "nosuch"'
