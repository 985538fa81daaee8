"""What a failover to an asynchronous standby may lose, as docs/promise.md says: the newest tasks, and the newest leases
with them."""

import os
import signal
from collections.abc import Iterator

import pytest

from lockgate.schema import create_logins
from lockgate.witness import Witness
from tests.contract import until
from tests.faults.failover.pair import LIMIT, Pair
from tests.runner.process import RunnerProcess


@pytest.fixture
def runners(asynchronous_pair: Pair, witness: Witness) -> Iterator[list[RunnerProcess]]:
    """To be added to. There is one slot for all of them, and a grace long enough to see what happens within it."""
    with asynchronous_pair.owner() as owner:
        owner.execute("update lockgate.queue set grace = 60, slots = 1")
    started: list[RunnerProcess] = []
    yield started
    for process in started:
        process.close()
        print(*process.lines, *process.noise, sep="\n")  # noqa: T201 - pytest shows it when the test failed


def stop_sending(pair: Pair) -> None:
    """What the primary commits from now on does not reach the standby, and the primary does not care."""
    with pair.owner() as owner:
        sender = "select pid from pg_stat_replication where flush_lsn >= pg_current_wal_lsn()"
        (pid,) = until(lambda: owner.execute(sender).fetchone(), "the standby to have it all so far", LIMIT)
    os.kill(pid, signal.SIGSTOP)


def test_what_the_standby_lacked_is_gone_and_a_lease_and_a_slot_are_given_twice(
    asynchronous_pair: Pair, runners: list[RunnerProcess], witness: Witness
) -> None:
    pair = asynchronous_pair
    login = create_logins(pair.primary.dsn(), pair.primary.password)["runner"]
    old = RunnerProcess(pair.dsn(login), witness.address)
    runners.append(old)
    old.says("slot taken", LIMIT)
    with pair.owner() as owner:
        owner.execute("update lockgate.queue set paused = true")
        submit = "select lockgate.submit('default', 'nap', '{\"seconds\": 90}')"
        kept = owner.execute(submit).fetchone()
        stop_sending(pair)
        assert owner.execute(submit).fetchone() != kept
        owner.execute("update lockgate.queue set paused = false")
        until(lambda: witness.current(), "the first to begin", LIMIT)
    old.signal(signal.SIGSTOP)  # or it would soon find out, and kill its executor
    pair.kill_primary()
    pair.promote()

    with pair.owner() as owner:
        found = owner.execute("select id, status::text, lease from lockgate.task").fetchall()
        assert (found, kept) == ([(1, "queued", None)], (1,))
        owner.execute("update lockgate.queue set paused = false")
    runners.append(RunnerProcess(pair.dsn(login), witness.address))
    until(lambda: len(witness.executions) == 2, "the first to begin again", LIMIT)
    assert [(each.task, each.lease) for each in witness.current()] == [(1, 1), (1, 1)]
    assert witness.most == {"default": 2}
