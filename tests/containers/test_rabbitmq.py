"""The profile amqp as the README shows it: published from the management page, a task, done."""

import json
from collections.abc import Iterator

import pytest

from lockgate.healthcheck import STATUS_AGE_MAX
from tests.containers.compose import Compose, docker
from tests.contract import until
from tests.docs.markdown import blocks

ONLY = ("--profile", "amqp")


@pytest.fixture(scope="module")
def amqp(started: Compose) -> Iterator[Compose]:
    """The broker and the intake beside the rest, gone afterwards."""
    if "rabbitmq:4-management" not in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"):
        docker("pull", "--quiet", "rabbitmq:4-management")
    started(*ONLY, "up", "--wait", "--no-build", "--no-recreate", "rabbitmq", "intake")
    yield started
    started(*ONLY, "rm", "--stop", "--force", "--volumes", "intake", "rabbitmq")


def example(amqp: Compose, beginning: str) -> str:
    """The line of the README that begins so, with the addresses that things have here."""
    lines = [line for block in blocks("README.md", "sh") for line in block.text.splitlines()]
    (line,) = [line for line in lines if line.startswith(beginning)]
    page = amqp(*ONLY, "port", "rabbitmq", "15672").strip()
    assert page.startswith("127.0.0.1:")
    service = amqp("port", "service", "8000").strip()
    return line.replace("127.0.0.1:15672", page).replace("localhost:8000", service)


def shell(amqp: Compose, line: str) -> str:
    return amqp.run(["sh", "-c", line])


def test_a_message_published_from_the_management_page_is_followed_to_its_end(amqp: Compose) -> None:
    published = json.loads(shell(amqp, example(amqp, "curl -s -u")))
    assert published == {"routed": True}
    (query,) = [block.text for block in blocks("README.md", "sql") if "order-17" in block.text]
    said = until(lambda: amqp.psql(query), "the task", 60, every=0.2)
    task, _, metadata = said.split("|")
    assert json.loads(metadata) == {}
    follow = example(amqp, "curl -s localhost:8000/tasks/1").replace("/tasks/1", f"/tasks/{task}")
    until(lambda: json.loads(shell(amqp, follow))["status"] == "succeeded", "it to be done", 90, every=0.2)
    assert amqp.psql(query).split("|")[1] == "succeeded"
    shell(amqp, example(amqp, "curl -s -u"))
    count = ("exec", "-T", "intake", "cat", "/tmp/intake.json")  # noqa: S108 - the container's
    until(lambda: json.loads(amqp(*ONLY, *count))["duplicate"] == 1, "the copy", 60, every=0.5)
    assert amqp.psql(query).count("\n") == 0


def test_with_the_profile_events_how_it_ends_is_heard(amqp: Compose) -> None:
    both = (*ONLY, "--profile", "events")
    amqp(*both, "up", "--wait", "--no-build", "--no-recreate", "publish")
    try:
        api = example(amqp, "curl -s -u").split(" -d ")[0].replace("/exchanges/%2F/amq.default/publish", "{}")
        json_ = "-H 'content-type: application/json'"
        shell(amqp, f"{api.format('/queues/%2F/ear')} -X PUT {json_} -d '{{}}'")
        binding = '{"routing_key": "default.sleep.*"}'
        shell(amqp, f"{api.format('/bindings/%2F/e/lockgate.events/q/ear')} {json_} -d '{binding}'")
        shell(amqp, example(amqp, "curl -s -u").replace("order-17", "order-18"))
        asked = '{"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}'

        def heard() -> list[dict[str, str]]:
            return list(json.loads(shell(amqp, f"{api.format('/queues/%2F/ear/get')} {json_} -d '{asked}'")))

        (event,) = until(heard, "the end", 90, every=0.5)
        assert event["routing_key"] == "default.sleep.succeeded"
        assert json.loads(event["payload"])["idempotency_key"] == "order-18"
    finally:
        amqp(*both, "rm", "--stop", "--force", "publish")


def test_an_intake_without_its_broker_is_unwell_and_recovers_by_itself(amqp: Compose) -> None:
    healthy = ("exec", "-T", "intake", "lockgate", "healthcheck", "intake")
    amqp(*ONLY, *healthy)
    amqp(*ONLY, "stop", "rabbitmq")

    def unwell() -> bool:
        try:
            amqp(*ONLY, *healthy)
        except AssertionError as error:
            return "waits for the broker" in str(error)
        return False

    until(unwell, "it to say so", 2 * STATUS_AGE_MAX, every=0.5)
    amqp(*ONLY, "start", "rabbitmq")
    amqp(*ONLY, "up", "--wait", "--no-build", "--no-recreate", "rabbitmq", "intake")
