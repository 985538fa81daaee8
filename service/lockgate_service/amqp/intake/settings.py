"""What the intake is told at its start, and nothing that changes later."""

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """Checked by the options of `__main__`, one field each."""

    database_url: str
    amqp_url: str
    queue: str = "lockgate.tasks"
    exchange: str | None = None
    exchange_type: str = "topic"
    bindings: tuple[str, ...] = ("#",)
    passive: bool = False
    prefetch: int = 500
    status_file: str | None = None
    metrics: str | None = None
    log_format: str = "auto"
    log_level: str = "info"

    @property
    def invalid_queue(self) -> str:
        return f"{self.queue}.invalid"

    @property
    def scope(self) -> str:
        """Of idempotency keys: a message_id counts within its queue."""
        return f"amqp:{self.queue}"
