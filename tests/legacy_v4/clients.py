"""Clients of Engine.IO 3 that show each packet as it is on the wire; they share no code with our codec."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import websocket

from repo_notify.demo.seed import STRUCTURE

SECONDS = 30.0
ROOM = {"account": "acme", "model": STRUCTURE}
NAMESPACE = "/legacy_v4"
Frame = str | bytes


@dataclass(frozen=True)
class Answer:
    """What the server answered over HTTP."""

    status: int
    content_type: str
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def message(self) -> str:
        """Of an error."""
        return str(json.loads(self.content)["message"])


def ask(
    port: int, method: str, query: dict[str, str], body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request to the engine, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, "/chat/?" + urlencode(query), body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.getheader("Content-Type", ""), response.read())
    finally:
        connection.close()


def split(payload: str) -> list[str]:
    """The packets of a payload, which the server writes in ASCII."""
    found = []
    while payload:
        match = re.match(r"([0-9]+):", payload, re.ASCII)
        assert match, payload
        end = match.end() + int(match[1])
        assert end <= len(payload), payload
        found.append(payload[match.end() : end])
        payload = payload[end:]
    return found


def join(*packets: str) -> bytes:
    """Packets in ASCII as a payload."""
    return "".join(f"{len(packet)}:{packet}" for packet in packets).encode()


class Polling:
    """A long-polling client. `greeting` is the handshake's."""

    def __init__(self, port: int, cookie: str = "", **query: str) -> None:
        self.port = port
        self.query = {"EIO": "3", "transport": "polling", **query}
        opened = ask(port, "GET", self.query, headers={"Cookie": cookie} if cookie else {})
        assert opened.status == 200, opened
        first, *self._waiting = split(opened.text)
        assert first[0] == "0"
        self.greeting = json.loads(first[1:])
        self.sid: str = self.greeting["sid"]
        self.query["sid"] = self.sid

    def get(self) -> Answer:
        return ask(self.port, "GET", self.query)

    def post(self, body: bytes, content_type: str = "text/plain;charset=UTF-8") -> Answer:
        return ask(self.port, "POST", self.query, body, {"Content-Type": content_type})

    def send(self, *packets: str) -> None:
        answer = self.post(join(*packets))
        assert (answer.status, answer.text) == (200, "ok"), answer

    def receive(self) -> str | None:
        """The next packet; None when the session is gone."""
        while not self._waiting:
            answer = self.get()
            if answer.status != 200:
                return None
            self._waiting = split(answer.text)
        packet = self._waiting.pop(0)
        return None if packet == "1" else packet

    def open_poll(self) -> socket.socket:
        """Begin a poll, which is left open; returns its TCP connection."""
        found = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        found.sendall(f"GET /chat/?{urlencode(self.query)} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        return found

    @property
    def is_gone(self) -> bool:
        return self.post(join("2")).status == 400

    def close(self) -> None:
        self.post(join("1"))


class WebSocket:
    """A WebSocket client; with `sid` an upgrade, whose `greeting` is empty."""

    def __init__(self, port: int, cookie: str = "", **query: str) -> None:
        self.port = port
        asked = {"EIO": "3", "transport": "websocket", **query}
        address = f"ws://127.0.0.1:{port}/chat/?{urlencode(asked)}"
        self.connection: Any = websocket.create_connection(
            address, timeout=SECONDS, cookie=cookie or None, suppress_origin=True
        )
        self.greeting: dict[str, Any] = {}
        if "sid" not in query:
            opened = self.receive()
            assert isinstance(opened, str)
            assert opened[0] == "0"
            self.greeting = json.loads(opened[1:])
        self.sid: str = query.get("sid") or self.greeting["sid"]

    def send(self, *packets: Frame) -> None:
        for packet in packets:
            if isinstance(packet, bytes):
                self.connection.send_binary(packet)
            else:
                self.connection.send(packet)

    def receive(self) -> Frame | None:
        """The next message; None when the server has closed."""
        try:
            found: Frame = self.connection.recv()
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            return None
        return found or None

    @property
    def is_gone(self) -> bool:
        return self.receive() is None

    def close(self) -> None:
        self.connection.shutdown()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Client = Polling | WebSocket
TRANSPORTS: dict[str, Callable[..., Client]] = {"polling": Polling, "websocket": WebSocket}


def event(name: str, *args: object, namespace: str = "/", number: int | None = None) -> str:
    """An EVENT packet."""
    where = "" if namespace == "/" else f"{namespace},"
    return f"42{where}{'' if number is None else number}{json.dumps([name, *args], separators=(',', ':'))}"


def read(packet: object) -> tuple[str, Any]:
    """An EVENT's name and first argument."""
    assert isinstance(packet, str)
    name, *args = json.loads(packet[packet.index("[") :])
    return name, args[0] if args else None


def receive_event(client: Client, name: str) -> Any:
    """The next event, which must be of that name."""
    found, data = read(client.receive())
    assert found == name
    return data


def join_room(client: Client, namespace: str = "/") -> None:
    client.send(event("join", ROOM, namespace=namespace))
    assert receive_event(client, "joined") == ROOM
    assert receive_event(client, "message")["event"] == "success"
