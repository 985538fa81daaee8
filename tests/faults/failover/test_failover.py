"""A synchronous standby takes over under load, and nothing that was promised is broken."""

import pytest

from lockgate.witness import Witness
from tests.faults.failover.field import Field
from tests.faults.failover.pair import Pair

pytestmark = pytest.mark.timeout(300)


def test_failovers_at_random_moments_break_nothing_and_nobody_is_started_again(pair: Pair, witness: Witness) -> None:
    with Field(pair, witness, seed=1, grace=3) as field:
        field.fail_over()
        refusals = sum(field.refusals.values())
        task = field.begin(seconds=6)
        field.fail_over(absent=4)  # longer than an executor lives without its database
        assert sum(field.refusals.values()) > refusals
        field.fail_over("stop")
        assert field.breaches() == {}
        assert [each.task for each in witness.executions].count(task) > 1
        assert len(field.accepted) > 30
