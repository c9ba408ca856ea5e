"""Free loopback ports for servers that cannot pick one themselves."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a loopback port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
