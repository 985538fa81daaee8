"""A message as it was delivered to us."""

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable

from lockgate_service.amqp.intake.mapping import Properties


class Delivery:
    """A message, and the number by which it is acknowledged: greater than those of all before it on its channel."""

    __slots__ = ("body", "exchange", "properties", "routing_key", "tag")

    def __init__(self, message: DeliveredMessage) -> None:
        delivered = message.delivery
        assert isinstance(delivered, Basic.Deliver)  # noqa: S101  (nothing else comes to a consumer)
        self.body: bytes = message.body
        self.properties: Basic.Properties = message.header.properties
        self.tag = int(delivered.delivery_tag or 0)
        self.exchange = delivered.exchange or ""
        self.routing_key = delivered.routing_key or ""

    @property
    def headers(self) -> FieldTable:
        return self.properties.headers or {}

    def meant(self) -> Properties:
        """Its properties that mean something to us."""
        return Properties(
            message_id=self.properties.message_id,
            correlation_id=self.properties.correlation_id,
            priority=self.properties.priority,
            headers=self.headers,
        )
