"""What a runner does that meets a standby: nothing, for that would give it the same lock as the primary does."""

from collections.abc import Iterator

import psycopg
import pytest

from lockgate.schema import create_logins
from lockgate.witness import Witness
from tests.contract import until
from tests.faults.failover.pair import LIMIT, Pair
from tests.runner.process import RunnerProcess

REFUSALS = {"": "the server is a standby", "?target_session_attrs=read-write": "session is read-only"}


@pytest.fixture(params=REFUSALS, ids=["told nothing", "told to look for a primary"])
def runner(pair: Pair, witness: Witness, request: pytest.FixtureRequest) -> Iterator[RunnerProcess]:
    """A runner that reaches only the standby."""
    login = create_logins(pair.primary.dsn(), pair.primary.password)["runner"]
    process = RunnerProcess(pair.standby.dsn(login) + request.param, witness.address)
    yield process
    process.close()
    print(*process.lines, *process.noise, sep="\n")  # noqa: T201 - pytest shows it when the test failed


def test_a_runner_starts_nothing_on_a_standby_says_why_and_works_once_that_is_promoted(
    pair: Pair, runner: RunnerProcess, witness: Witness, request: pytest.FixtureRequest
) -> None:
    with pair.owner() as owner:
        owner.execute("select lockgate.submit('default', 'nap')")
    with psycopg.connect(pair.standby.dsn(), autocommit=True) as standby:
        assert standby.execute("select pg_try_advisory_lock(1, 1)").fetchone() == (True,)  # it would be granted
        queued = "select count(*) from lockgate.task where status = 'queued'"
        until(lambda: standby.execute(queued).fetchone() == (1,), "the task to be on the standby", LIMIT)

        said = runner.says("database unreachable", LIMIT, count=2)  # looks again every few seconds
        assert REFUSALS[request.node.callspec.params["runner"]] in said["error"]
        held = "select count(*) from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid()"
        assert standby.execute(held).fetchone() == (0,)
        assert not runner.events("slot taken")
        assert witness.executions == []

    pair.kill_primary()
    pair.promote()
    until(lambda: witness.executions, "the task to begin", LIMIT)
