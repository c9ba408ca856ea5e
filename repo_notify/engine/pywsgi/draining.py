"""A server that can be emptied: for process managers that wait until no connection is left, such as gunicorn."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from .handler import WebSocketHandler
from .server import PatientServer


class DrainingServer(PatientServer):
    """Takes `DrainingHandler`s."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        stock: Any = super()
        stock.__init__(*args, **kwargs)
        self.waiting: set[Any] = set()

    def drain(self) -> None:
        """Stop accepting; end connections that wait for their next request, others with the answer under way."""
        own: Any = self
        if own.started:
            own.close()
        for held in list(self.waiting):
            # Its reader finds the end of the connection, and what has arrived already before that.
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RD)


class DrainingHandler(WebSocketHandler):
    """Lets its server know of a connection that waits for a request."""

    def await_request(self) -> bytes:
        """Wait for a request; none will come where the server has stopped accepting."""
        handler: Any = self
        if getattr(handler.server, "closed", False):
            return b""
        held, waiting = handler.socket, handler.server.waiting
        waiting.add(held)
        try:
            return super().await_request()
        finally:
            waiting.discard(held)
