"""A WebSocket client that shows the packets as they are on the wire."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

import websocket

SECONDS = 30.0
PING, PONG = "2", "3"
_POSITION = re.compile(r'42(/[^,]*,)?\["position",')


class RawSocket:
    """A client in the default namespace; a context manager."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection = connection

    @classmethod
    def connect(cls, url: str, cookie: str = "", query: str = "", eio: int = 4) -> RawSocket:
        """Connect to a served app, and to the default namespace."""
        address = url.replace("http", "ws", 1) + f"/chat/?EIO={eio}&transport=websocket{query}"
        client = cls(websocket.create_connection(address, timeout=SECONDS, cookie=cookie or None))
        client.receive()
        # Clients of Engine.IO 3 are in it by themselves.
        if eio == 4:
            client.send("40")
        client.receive()
        return client

    def send(self, packet: str) -> None:
        self._connection.send(packet)

    def receive(self) -> str:
        """The next packet that tells no position, "" when the server has closed; pings are answered."""
        while _POSITION.match(packet := self.receive_any()):
            """It stands behind whatever the server sends."""
        return packet

    def receive_any(self) -> str:
        """The next packet, "" when the server has closed; pings are answered."""
        try:
            while (packet := str(self._connection.recv())) == PING:
                self._connection.send(PONG)
        except websocket.WebSocketConnectionClosedException:
            return ""
        return packet

    def close(self) -> None:
        self._connection.close()
        # A connection that the server has ended is not closed by that.
        connection: Any = self._connection
        connection.shutdown()

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
