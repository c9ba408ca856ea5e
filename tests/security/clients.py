"""A client of either generation that shows the bytes of what it is answered."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import websocket

SECONDS = 30.0


def attached(eio: int, data: bytes) -> bytes:
    """The WebSocket message that carries an attachment."""
    return data if eio == 4 else b"\x04" + data


class Chat:
    """A WebSocket in the default namespace; a context manager."""

    def __init__(self, port: int, eio: int = 4, cookie: str = "", path: str = "/chat/") -> None:
        self.eio = eio
        self.cookie = cookie
        self._connection = websocket.create_connection(
            f"ws://127.0.0.1:{port}{path}?EIO={eio}&transport=websocket",
            timeout=SECONDS, cookie=cookie or None, suppress_origin=True, skip_utf8_validation=True,
        )
        self.sid: str = json.loads(self.receive()[1:])["sid"]
        if eio == 4:
            self.send("40")
        answer = self.receive()
        assert answer.startswith(b"40"), answer
        if eio == 4:
            self.sid = json.loads(answer[2:])["sid"]

    def send(self, *packets: str | bytes) -> None:
        for packet in packets:
            if isinstance(packet, bytes):
                self._connection.send_binary(packet)
            else:
                self._connection.send(packet)

    def receive(self) -> bytes:
        """The next message as it is on the wire, b"" when the server has closed.

        Pings are answered; positions, which stand behind all that the server sends, are left out.
        """
        try:
            while (found := self._next()) == b"2" or found.startswith(b'42["position",'):
                if found == b"2":
                    self.send("3")
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            return b""
        return found

    def _next(self) -> bytes:
        opcode, data = self._connection.recv_data()
        return b"" if opcode == websocket.ABNF.OPCODE_CLOSE else bytes(data)

    def receive_all(self) -> list[bytes]:
        """Everything until the server closes."""
        return list(iter(self.receive, b""))

    def ask(self, *packets: str | bytes) -> list[bytes]:
        """Everything that is answered to these: what arrives before the answer to a question asked afterwards."""
        self.send(*packets, '42987654321["leave","barrier"]')
        found: list[bytes] = []
        while not (answer := self.receive()).startswith(b"43987654321"):
            assert answer, "the server has closed"
            found.append(answer)
        # The barrier's own event comes before its acknowledgement.
        assert b"barrier" in found[-1], found
        return found[:-1]

    def __enter__(self) -> Chat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection: Any = self._connection
        connection.shutdown()
