"""Settings of the service, and the option of its programs for the database."""

import re
from ipaddress import ip_address

from msgspec import Struct
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from lockgate.options import database_url


class Settings(Struct, frozen=True, kw_only=True):
    """Checked by the options of `__main__`, one field each. Never changes after the start."""

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

    @property
    def key_required(self) -> bool | None:
        """Whether a request needs a key; None: once there is one."""
        if self.open:
            return False
        return None if is_loopback(self.published or self.host) else True


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an IP address or `localhost`, perhaps with a port. A port alone, which
    compose.yaml may have, is that of all addresses."""
    host = re.sub(r"^(\[.*\]|[^:]*):\d*$", r"\1", address).strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_database_url(text: str) -> bool:
    """Whether libpq can read this as a connection string; it may still lead nowhere."""
    try:
        return bool(conninfo_to_dict(text))
    except ProgrammingError:
        return False


DATABASE_URL = database_url(
    "Where Postgres is.", is_one=is_database_url, form="postgresql://user:password@host:5432/database"
)
