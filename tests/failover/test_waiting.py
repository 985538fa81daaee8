"""While a synchronous standby is away, commits wait for it; what is not committed there is not said to be."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract import until
from tests.failover.pair import Pair

ASSURANCES = {
    "a submission is replayed": "select lockgate.submit('default', 'nap', idempotency_key => 'k')",
    "a submission is deduplicated": "select lockgate.submit('default', 'nap', dedupe_key => 'k')",
    "a task is cancelled again": "select lockgate.cancel(1)",
}


@pytest.mark.parametrize("statement", ASSURANCES.values(), ids=ASSURANCES)
def test_nobody_is_assured_of_a_commit_that_the_standby_lacks_when(pair: Pair, statement: str) -> None:
    with pair.owner() as first, pair.owner() as second, pair.owner() as eye, ThreadPoolExecutor() as threads:
        if "cancel" in statement:
            first.execute("select lockgate.submit('default', 'nap')")
        pair.kill_standby()
        # A wait that is cancelled leaves behind a commit that everybody sees and the standby has not.
        said = threads.submit(first.execute, statement)
        until(lambda: pair.waiting() == 1, "the first to wait")
        eye.execute("select pg_cancel_backend(%s)", (first.info.backend_pid,))
        answer = said.result(10).fetchone()
        assert eye.execute("select count(*) from lockgate.task").fetchone() == (1,)

        said = threads.submit(second.execute, statement)
        until(lambda: pair.waiting() == 1 or said.done(), "the second to wait")
        assert not said.done()
        pair.start_standby()
        assert said.result(20).fetchone() == answer
