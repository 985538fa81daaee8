"""What the service is told at its start, and nothing that changes later."""

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """Checked by the options of `__main__`, one field each."""

    database_url: str
    host: str = "127.0.0.1"
    port: int = 8000
    pool_size: int = 10
    log_format: str = "auto"
    log_level: str = "info"
    open: bool = False
    published: str | None = None
    trusted_proxies: str | None = None
    root_path: str = ""
