"""A served engine, and clients that speak to it byte by byte: raw HTTP, and websocket-client."""

from __future__ import annotations

import json
import os
import socket
import ssl
import tempfile
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import urlencode

import websocket

from tests.support.fork_server import fork_server

SECONDS = 30.0
EIO4 = {"EIO": "4"}
Frame = str | bytes


def any_certificate() -> ssl.SSLContext:
    """For a server whose certificate was made just now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class Served:
    """An engine in a process of its own."""

    def __init__(self, mode: str, handler: str = "ours", **options: Any) -> None:
        self.mode = mode
        self.handler = handler
        arguments = ("tests.engine.serve", mode, json.dumps(options), handler)
        self._log = ""
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `stop`
        programs = fork_server(patched=mode == "gevent")
        self._process = programs.start(*arguments, env=os.environ, stderr=self._errors.fileno())
        self.port = int(self._process.stdout.readline())
        self.pid = self._process.pid

    def stop(self) -> str:
        """End the process, if it has not ended yet; what it logged."""
        if not self._errors.closed:
            with self._errors, self._process:
                self._process.terminate()
                self._process.wait(SECONDS)
                self._errors.seek(0)
                self._log = self._errors.read()
        return self._log

    def call(self, path: str, **arguments: Any) -> Any:
        """One of the server's own paths."""
        return self.http("POST", path, json.dumps(arguments).encode()).json

    def http(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; header names have `_` for `-`."""
        connection = self._connection()
        try:
            connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        if not self.handler.endswith("tls"):
            return HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        return HTTPSConnection("127.0.0.1", self.port, timeout=SECONDS, context=any_certificate())

    def request(
        self, method: str, body: bytes | None = None, headers: dict[str, str] | None = None, /, **query: str,
    ) -> Answer:
        """One request to the engine."""
        return self.http(method, "/chat/?" + urlencode(query), body, **headers or {})

    def raw(self) -> socket.socket:
        """A bare TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def poller(self, **query: str) -> Poller:
        """A new long-polling session."""
        return Poller(self, **query)

    def websocket(self, origin: str | None = None, **query: str) -> Socket:
        """A new WebSocket."""
        query = {**EIO4, "transport": "websocket", **query}
        connection = websocket.create_connection(
            f"{'wss' if self.handler == 'tls' else 'ws'}://127.0.0.1:{self.port}/chat/?" + urlencode(query),
            # The client checks UTF-8 byte by byte, which for long messages takes longer than everything else.
            timeout=SECONDS, origin=origin, suppress_origin=not origin, skip_utf8_validation=True,
            sslopt={"context": any_certificate()} if self.handler == "tls" else None,
        )
        return Socket(connection)

    def client(self, namespace: str = "/") -> Socket:
        """A WebSocket client that is in a namespace and has read what its connect handler emitted."""
        client = self.websocket()
        client.receive()
        enter(client, namespace)
        return client

    def polling_client(self, namespace: str = "/") -> Poller:
        """The same over long-polling."""
        client = self.poller()
        enter(client, namespace)
        return client


def enter(client: Poller | Socket, namespace: str) -> None:
    """Enter a namespace, and read what its connect handler emits."""
    prefix = "" if namespace == "/" else f"{namespace},"
    client.send(f"40{prefix}")
    assert str(client.receive()).startswith(f"40{prefix}")
    client.receive()


class Poller:
    """A long-polling client."""

    def __init__(self, served: Served, **query: str) -> None:
        self._served = served
        self._query = {**EIO4, "transport": "polling", **query}
        opened = served.request("GET", None, None, **self._query)
        assert opened.status == 200, opened
        assert opened.text[0] == "0"
        self.greeting = json.loads(opened.text[1:])
        self.sid = self.greeting["sid"]
        self._query["sid"] = self.sid
        self._waiting: list[str] = []

    def get(self) -> Answer:
        return self._served.request("GET", None, None, **self._query)

    def post(self, body: str | bytes, **headers: str) -> Answer:
        return self._served.request("POST", body.encode() if isinstance(body, str) else body, headers, **self._query)

    def send(self, packet: Frame) -> None:
        assert isinstance(packet, str)
        assert self.post(packet).text == "ok"

    def receive(self) -> Frame:
        """The next packet that is no ping."""
        while not self._waiting:
            self._waiting = [packet for packet in self.get().text.split("\x1e") if packet != "2"]
        return self._waiting.pop(0)

    @property
    def is_gone(self) -> bool:
        return self.get().status == 400


class Socket:
    """A WebSocket client."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def send(self, packet: Frame) -> None:
        if isinstance(packet, bytes):
            self._connection.send_binary(packet)
        else:
            self._connection.send(packet)

    def receive(self) -> Frame | None:
        """The next message that is no ping; None when the server has closed."""
        try:
            while (packet := self._connection.recv()) == "2":
                pass
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            return None
        return packet or None

    def receive_frame(self) -> tuple[int, bytes]:
        """The next frame, whatever it is: its opcode and payload."""
        frame = self._connection.recv_frame()
        return frame.opcode, frame.data

    def receive_all(self) -> list[Frame]:
        """Everything until the server closes."""
        return list(iter(self.receive, None))

    def close(self) -> None:
        self._connection.close()

    def __del__(self) -> None:
        self._connection.shutdown()

    @property
    def tcp(self) -> socket.socket:
        found: socket.socket = self._connection.sock
        return found
