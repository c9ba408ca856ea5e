"""A browser's requests, and its WebSocket, as plain as they come."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from email.message import Message as Headers
from http.client import HTTPConnection, HTTPSConnection
from time import monotonic
from typing import NamedTuple
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    CloseConnection,
    Message,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError

SECONDS = 5.0
_CHUNK = 65_536
_PORTS = {"http": 80, "https": 443}


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Headers
    text: str


class Refused(Exception):
    """A WebSocket's handshake was answered with something else."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def fetch(url: str, headers: Mapping[str, str], body: str | None = None) -> Answer:
    """GET an address, or POST a body to it; follows no redirect. Raises OSError or HTTPException."""
    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.netloc, timeout=SECONDS)
    try:
        content = {"Content-Type": "text/plain;charset=UTF-8"} if body is not None else {}
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("GET" if body is None else "POST", target, body, {**headers, **content})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read(_CHUNK).decode(errors="replace"))
    finally:
        connection.close()


class WebSocket:
    """A client's WebSocket: a context manager, which raises `Refused`, OSError, or TimeoutError for silence."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._deadline = monotonic() + SECONDS
        self._texts: list[str] = []
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._refusal: tuple[int, Headers, bytes] | None = None
        self._socket = _connect(parts.scheme, parts.hostname or "", parts.port)
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = Request(host=parts.netloc, target=f"{parts.path}?{parts.query}", extra_headers=extra)
        self._socket.sendall(self._protocol.send(request))

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._socket.sendall(self._protocol.send(CloseConnection(code=1000)))
        except (OSError, LocalProtocolError):
            pass  # the other side has closed it
        finally:
            self._socket.close()

    def say(self, text: str) -> None:
        """Send a text."""
        self._socket.sendall(self._protocol.send(Message(data=text)))

    def hear(self) -> str:
        """Return the next text."""
        while not self._texts:
            self._read()
        return self._texts.pop(0)

    def hear_one_of(self, *starts: str) -> str:
        """Return the next text that begins with one of these; others are passed over."""
        while not (text := self.hear()).startswith(starts):
            continue
        return text

    def _read(self) -> None:
        self._socket.settimeout(max(0.01, self._deadline - monotonic()))
        data = self._socket.recv(_CHUNK)
        self._protocol.receive_data(data or None)
        for event in self._protocol.events():
            self._take(event)
        if not data:
            raise ConnectionError("the connection was closed")

    def _take(self, event: object) -> None:
        if isinstance(event, TextMessage):
            self._texts.append(event.data)
        elif isinstance(event, RejectConnection):
            headers = Headers()
            for name, value in event.headers:
                headers[name.decode("latin-1")] = value.decode("latin-1")
            self._refusal = (event.status_code, headers, b"")
            self._refuse(finished=not event.has_body)
        elif isinstance(event, RejectData) and self._refusal is not None:
            status, headers, body = self._refusal
            self._refusal = (status, headers, body + bytes(event.data))
            self._refuse(finished=event.body_finished)
        elif isinstance(event, CloseConnection):
            raise ConnectionError(f"the WebSocket was closed ({int(event.code)})")

    def _refuse(self, *, finished: bool) -> None:
        if finished and self._refusal is not None:
            status, headers, body = self._refusal
            raise Refused(Answer(status, headers, body.decode(errors="replace")))


def _connect(scheme: str, host: str, port: int | None) -> socket.socket:
    plain = socket.create_connection((host, port or _PORTS[scheme]), timeout=SECONDS)
    if scheme != "https":
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
