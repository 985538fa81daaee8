"""Ports of this machine."""

import errno
import random
import socket


def obstacle(port: int, host: str = "127.0.0.1") -> str | None:
    """Return why no server can listen there now, in words; None if one can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} of {host} is taken"
            return f"nothing can listen on port {port} of {host}: {error.strerror}"
    return None


def a_free_one() -> int:
    """Return a free port of 127.0.0.1, and not one of the kernel's ephemeral ports.

    While nobody listens on one of those, a client that keeps trying to connect to it will sooner or later be given
    that very port as its own, and be connected to itself.
    """
    while True:
        port = random.randint(20000, 32000)  # noqa: S311  no secret
        if obstacle(port) is None:
            return port
