"""Kinds: what runners that live say that they serve."""

from psycopg.types.json import Jsonb

from tests.contract import Contract, Session

KINDS = "select kind, runners, queues, payload_schema from lockgate.kind_overview"


def announce(runner: Session, **schemas: object) -> None:
    runner.value("select lockgate.announce_schemas(%s, %s)", runner.number, Jsonb(schemas))


def test_each_kind_has_the_queues_of_those_that_serve_it_and_the_newest_schema(q: Contract) -> None:
    for queues, title in ((["a"], "old"), (["b", "a"], "new")):
        announce(q.runner(queues=queues, kinds=["mail", "plain"]), mail={"title": title})
    q.runner(kinds=["plain"])
    assert q.db.query(KINDS) == [("mail", 2, ["a", "b"], {"title": "new"}), ("plain", 3, None, None)]


def test_nobody_serves_what_only_the_dead_and_the_draining_serve(q: Contract) -> None:
    gone, draining = q.runner(kinds=["gone", "both"]), q.runner(kinds=["drained", "both"])
    q.runner(kinds=["both"])
    gone.die()
    q.service.execute("select lockgate.drain_runner(%s)", (draining.name,))
    assert q.db.query(KINDS) == [("both", 1, None, None)]


def test_schemas_have_a_limit(q: Contract) -> None:
    runner = q.runner(kinds=["mail"])
    with q.breaks("schemas_are_at_most_256_kib"):
        announce(runner, mail={"title": "x" * 262144})
    announce(runner, mail={"title": "x" * 262000})
