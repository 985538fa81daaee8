"""What the publisher is told at its start, and nothing that changes later."""

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """Checked by the options of `__main__`, one field each."""

    database_url: str
    amqp_url: str
    exchange: str = "lockgate.events"
    passive: bool = False
    status_file: str | None = None
    log_format: str = "auto"
    log_level: str = "info"
