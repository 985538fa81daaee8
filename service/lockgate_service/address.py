"""From where the service can be reached."""

import re
from ipaddress import ip_address


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches that: an IP address or `localhost`, perhaps with a port. A port alone, as
    compose.yaml may have it, is that of all addresses."""
    host = re.sub(r"^(\[.*\]|[^:]*):\d*$", r"\1", address).strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
