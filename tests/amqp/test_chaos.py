"""A little of what `python -m tests.amqp` does at length: whatever takes part is killed, and nothing is missing."""

import pytest

from lockgate.postgres.server import Server
from tests.amqp.broker import Broker, Names
from tests.amqp.chaos import Plan, run


@pytest.mark.timeout(600)
def test_no_message_is_lost_or_doubled_and_no_end_unheard_whatever_dies(
    own_server: Server, rabbit: Broker, names: Names
) -> None:
    plan = Plan(messages=600, bad=30, failing=15, kill_every=1.0, rate=60, restart_broker=rabbit.container is not None)
    report = run(own_server, rabbit, names, plan)
    assert report.breaches == []
    assert report.intake_kills > 0
    assert (report.tasks, report.invalid, report.events) == (600, 30, 615)
