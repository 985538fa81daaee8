"""An outcome as a message: where it goes, and what it is called."""

from pamqp.commands import Basic

from lockgate_service.amqp.publish.db import Outcome

ROUTING_KEY_BYTES_MAX = 255


def routing_key(outcome: Outcome) -> str:
    """queue.kind.status; a kind that is too long for that is cut."""
    around = len(f"{outcome.queue}..{outcome.status}".encode())
    kind = outcome.kind.encode()[: ROUTING_KEY_BYTES_MAX - around].decode(errors="ignore")
    return f"{outcome.queue}.{kind}.{outcome.status}"


def properties(outcome: Outcome) -> Basic.Properties:
    correlation_id = outcome.correlation_id
    if correlation_id is not None and len(correlation_id.encode()) > ROUTING_KEY_BYTES_MAX:
        correlation_id = None  # it is in the body
    return Basic.Properties(
        message_id=str(outcome.id),
        message_type="task.ended",
        correlation_id=correlation_id,
        content_type="application/json",
        timestamp=outcome.time,
        delivery_mode=2,
    )
