"""A blocking WebSocket client on one socket, without a thread; the frames are wsproto's work."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Mapping
from time import monotonic

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError

_CHUNK = 65_536


class Closed(ConnectionError):
    """The server has closed the connection."""


class HandshakeRefused(ConnectionError):
    """The server answered the handshake with something else; `status` and `body` are its answer."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"the handshake was answered with {status}: {body}")
        self.status = status
        self.body = body


class WebSocket:
    """An open connection to `address`; text and bytes are messages. Deadlines are of `time.monotonic`."""

    def __init__(
        self,
        address: tuple[str, int],
        target: str,
        headers: Mapping[str, str],
        receive_buffer: int | None,
        timeout: float,
    ) -> None:
        self._messages: deque[str | bytes] = deque()
        self._parts: list[str | bytes] = []
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._accepted = self.closed = False
        self._end: str | None = None
        self._status, self._body = 0, b""
        self.socket = socket.socket()
        if receive_buffer is not None:
            # Before it connects, as the window is agreed on then.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            self.socket.connect(address)
            self._write(Request(host=f"{address[0]}:{address[1]}", target=target, extra_headers=extra))
            ends = monotonic() + timeout
            while not self._accepted:
                if self._end is not None:
                    raise Closed(f"the server has closed the connection before it was open{self._end}")
                self._read(ends)
        except BaseException:
            self.close()
            raise

    def send(self, text: str) -> None:
        """Send a text message; raises `Closed`."""
        self._write(TextMessage(data=text))

    def receive(self, ends: float) -> str | bytes:
        """Return the next message; raises `Closed`, and `TimeoutError` after `ends`."""
        while not self._messages:
            if self._end is not None:
                raise Closed(f"the server has closed the connection{self._end}")
            self._read(ends)
        return self._messages.popleft()

    def close(self, goodbye: str | None = None) -> None:
        """Close the socket; with a goodbye, send that before, and WebSocket's own."""
        if goodbye is not None and not self.closed:
            with contextlib.suppress(Closed):
                self._write(TextMessage(data=goodbye))
                self._write(CloseConnection(code=1000))
        self.closed = True
        self.socket.close()

    def _write(self, event: Event) -> None:
        if self.closed:
            raise Closed("this client was closed")
        try:
            self.socket.sendall(self._protocol.send(event))
        except (OSError, LocalProtocolError) as error:
            raise Closed(f"the server has closed the connection: {error}") from None

    def _read(self, ends: float) -> None:
        if self.closed:
            raise Closed("this client was closed")
        left = ends - monotonic()
        if left <= 0:
            raise TimeoutError("not in time")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(_CHUNK)
        except TimeoutError:
            raise TimeoutError("not in time") from None
        except ConnectionError as error:
            self._end = f": {error}"
            return
        if not data:
            self._end = ""
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            self._parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
            if event.message_finished:
                self._messages.append(_joined(self._parts))
                self._parts = []
        elif isinstance(event, AcceptConnection):
            self._accepted = True
        elif isinstance(event, Ping):
            self._write(event.response())
        elif isinstance(event, CloseConnection):
            with contextlib.suppress(Closed):
                self._write(event.response())
            self._end = f" with code {event.code}"
        else:
            self._take_refusal(event)

    def _take_refusal(self, event: Event) -> None:
        if isinstance(event, RejectConnection):
            self._status = event.status_code
        elif isinstance(event, RejectData):
            self._body += event.data
        finished = not event.has_body if isinstance(event, RejectConnection) else getattr(event, "body_finished", False)
        if finished:
            raise HandshakeRefused(self._status, self._body.decode(errors="replace"))


def _joined(parts: list[str | bytes]) -> str | bytes:
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts else b"".join(part for part in parts if isinstance(part, bytes))
