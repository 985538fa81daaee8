"""Where RabbitMQ is: an URL such as amqp://user:password@host:5672/vhost."""

from urllib.parse import urlsplit


def is_amqp_url(text: str) -> bool:
    """Whether it can be one; it may still lead nowhere."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def place(url: str) -> str:
    """The broker, for the log: without user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}{parts.path}"
