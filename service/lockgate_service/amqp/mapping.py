"""From a message to the task that it asks for, or to what is wrong with it. Nothing here waits."""

import base64
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from pamqp.commands import Basic

from lockgate_service.amqp.broker import UNREADABLE
from lockgate_service.http.body import TASKS_MAX, decode, field_and_message, no_text
from lockgate_service.http.problems import Refusal, invalid
from lockgate_service.tasks.messages import Due, KeyedTask, NewTask

MESSAGE_ID_LENGTH_MAX = 200
SOON = 60.0  # seconds
# Headers in which the broker counts deliveries.
OF_THE_BROKER = frozenset({"x-delivery-count", "x-acquired-count"})
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class EnvelopedTask(KeyedTask, omit_defaults=True):
    """A KeyedTask with what came around it."""

    envelope: dict[str, Any] | None = None


class Asked(Struct, frozen=True):
    """The task that a message asks for, as `submit_batch` takes it, and what the intake needs to know of it."""

    item: bytes
    task: NewTask
    keys: tuple[str, str]  # idempotency key, dedupe key
    due: Due | None  # by our clock; None: later than soon


def asked(body: bytes, properties: Basic.Properties, now: datetime | None = None) -> Asked:
    """Raises the Refusal with which `POST /tasks` would answer."""
    if len(body) > TASKS_MAX:
        raise Refusal(413, f"the message has {len(body)} bytes, more than {TASKS_MAX}")
    if not body:
        raise invalid("body", "is missing")
    task: NewTask = decode(body, NewTask)
    task = _with_properties(task, properties)
    if task.run_at is not None and task.delay is not None:
        raise invalid("delay", "cannot be given together with run_at")
    key = _message_id(properties.message_id)
    whole = EnvelopedTask(**msgspec.structs.asdict(task), idempotency_key=key, envelope=_envelope(properties))
    try:
        item = msgspec.json.encode(whole)
    except RecursionError:
        raise invalid("body", "is nested too deeply") from None
    return Asked(item, task, (key or "", task.dedupe_key or ""), _due(task, now or datetime.now(UTC)))


def _with_properties(task: NewTask, properties: Basic.Properties) -> NewTask:
    """The body wins; a property counts where the body leaves something open."""
    found: dict[str, Any] = {}
    if task.priority is None and properties.priority is not None:
        found["priority"] = properties.priority
    if task.run_at is None and (run_at := (properties.headers or {}).get("run_at")) is not None:
        found["run_at"] = run_at
    if not found:
        return task
    try:
        checked = msgspec.convert({"kind": task.kind} | found, NewTask)
    except msgspec.ValidationError as error:
        raise invalid(*field_and_message(str(error))) from None
    return msgspec.structs.replace(task, **{name: getattr(checked, name) for name in found})


def _message_id(message_id: str | None) -> str | None:
    """The idempotency key. An empty message_id is none."""
    if not message_id:
        return None
    if len(message_id) > MESSAGE_ID_LENGTH_MAX:
        raise invalid("message_id", f"must have at most {MESSAGE_ID_LENGTH_MAX} characters")
    if (message := no_text(message_id)) is not None:
        raise invalid("message_id", message)
    return message_id


def _envelope(properties: Basic.Properties) -> dict[str, Any] | None:
    """For people, and for receivers of the task's end. Nothing in it but its size can make a message invalid."""
    found: dict[str, Any] = {}
    if properties.correlation_id:
        found["correlation_id"] = _plain(properties.correlation_id)
    headers = {
        _plain(name): _plain(value)
        for name, value in (properties.headers or {}).items()
        if name not in OF_THE_BROKER and name not in ("run_at", UNREADABLE)
    }
    if headers:
        found["headers"] = headers
    return found or None


def _plain(value: Any) -> Any:
    """A value of a header as JSON that can be stored."""
    match value:
        case str():
            return _UNSTORABLE.sub("�", value)
        case bytes() | bytearray():
            try:
                return _UNSTORABLE.sub("�", bytes(value).decode())
            except UnicodeDecodeError:
                return base64.b64encode(value).decode()
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return str(value)
        case Mapping():
            return {_plain(name): _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value


def _due(task: NewTask, now: datetime) -> Due | None:
    """For a hint to runners. Where it is wrong, their poll finds the task."""
    if task.run_at is None:
        delay = task.delay or 0.0
        return "now" if delay == 0 else "soon" if delay < SOON else None
    return "soon" if task.run_at < now + timedelta(seconds=SOON) else None
