"""A client for tests, of either generation, on a real WebSocket: `Client(url, cookie=...)`.

It has no thread: it reads while one of its methods waits. So a client that is not called is a stalled reader, which
has to answer the server's pings within REPO_NOTIFY_PING_INTERVAL + REPO_NOTIFY_PING_TIMEOUT like any other.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import struct
from collections import deque
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

from .websocket import Closed, WebSocket

SECONDS = 10.0

Name = Literal["v5", "v4"]

# type, number of attachments, namespace, number of the acknowledgement, data
_PACKET = re.compile(r"([0-6])(?:(\d+)-)?(?:(/[^,]*)(?:,|$))?(\d*)(.*)", re.DOTALL)
# What a join or a leave is answered with, beside its acknowledgement.
_REPLIES = frozenset({"message", "joined", "error", "credentialError"})
# On close, send a reset in place of what is left.
_ABORT = struct.pack("ii", 1, 0)


class JoinRefused(AssertionError):
    """A join or a leave was refused; `reply` is what the service answered: `{code, message, details}`."""

    def __init__(self, reply: Any) -> None:
        super().__init__(reply)
        self.reply = reply


class NotHeard(AssertionError):
    """An event did not come in time; the text says what came instead."""


class Heard(NamedTuple):
    """One event as a client hears it."""

    name: str
    data: Any


@dataclass(frozen=True)
class _Generation:
    """How frontends of one generation speak; v5's are of Engine.IO 4, v4's of Engine.IO 3."""

    eio: int
    # Who asks to enter the default namespace, and who pings.
    asks_for_default: bool
    pings: bool
    # What the engine writes before an attachment.
    before_attachment: bytes


_GENERATIONS: dict[Name, _Generation] = {
    "v5": _Generation(eio=4, asks_for_default=True, pings=False, before_attachment=b""),
    "v4": _Generation(eio=3, asks_for_default=False, pings=True, before_attachment=b"\x04"),
}


class _Partial(NamedTuple):
    """A packet whose attachments have not all come."""

    missing: int
    kind: str
    number: str
    text: str


class Client:
    """One connection, in one namespace; a context manager.

    `cookie` is the header of whoever is logged in; `receive_buffer` the bytes that the system takes for a client that
    does not read, small for a stalled one. Raises `HandshakeRefused` with the server's answer.
    """

    def __init__(
        self,
        url: str,
        *,
        cookie: str = "",
        generation: Name = "v5",
        namespace: str = "/",
        path: str = "/chat",
        headers: dict[str, str] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.namespace = namespace
        self._generation = _GENERATIONS[generation]
        self._unheard: deque[Heard] = deque()
        self._acknowledged: dict[int, Any] = {}
        self._numbers = itertools.count()
        self._attachments: list[bytes] = []
        self._partial: _Partial | None = None
        self._entered: str | None = None
        # How far the history goes that it has had (docs/delivery.md); `heard` and `wait_for` leave it out.
        self.position: str | None = None
        address = urlsplit(url)
        query = urlencode({"EIO": self._generation.eio, "transport": "websocket"})
        sent = {**({"Cookie": cookie} if cookie else {}), **(headers or {})}
        self._websocket = WebSocket(
            (address.hostname or "", address.port or 80), f"{path}/?{query}", sent, receive_buffer, SECONDS
        )
        try:
            self._enter()
        except BaseException:
            self._websocket.close()
            raise

    @property
    def id(self) -> str:
        """The socket's id, as a frontend sends it in `x-socket-id`."""
        assert self._entered is not None
        return self._entered

    def join(self, **room: Any) -> None:
        """Join a room, such as `teamspace="acme", project=..., model=...`; raises `JoinRefused`."""
        self._ask_for("join", room)

    def leave(self, **room: Any) -> None:
        """Leave a room; raises `JoinRefused`."""
        self._ask_for("leave", room)

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event; the arguments are JSON."""
        self._send_event("", event, arguments)

    def ask(self, event: str, *arguments: Any, timeout: float = SECONDS) -> Any:
        """Send an event and return what the server acknowledges it with."""
        number = next(self._numbers)
        self._send_event(str(number), event, arguments)
        ends = monotonic() + timeout
        while number not in self._acknowledged:
            self._pump(ends)
        return self._acknowledged.pop(number)

    def wait_for(self, event: str, timeout: float = SECONDS) -> Any:
        """Return the data of the next event of that name; others stay for later calls. Raises `NotHeard`."""
        ends = monotonic() + timeout
        looked = 0
        while True:
            for index in range(looked, len(self._unheard)):
                if self._unheard[index].name == event:
                    data = self._unheard[index].data
                    del self._unheard[index]
                    return data
            looked = len(self._unheard)
            try:
                self._pump(ends)
            except (TimeoutError, Closed) as error:
                raise NotHeard(f"{event} was not heard ({error}), but {[name for name, _ in self._unheard]}") from None

    def heard(self, timeout: float = SECONDS) -> list[Heard]:
        """Return every event that was sent to this client until now and not returned yet.

        It asks the service something that is answered in order: no pause, and `assert client.heard() == []` is sure.
        """
        asked = {"barrier": next(self._numbers)}
        self.ask("leave", asked, timeout=timeout)
        ends = monotonic() + timeout
        while not (answers := [index for index, one in enumerate(self._unheard) if _is_answer(one, asked)]):
            self._pump(ends)
        found = [self._unheard.popleft() for _ in range(answers[0])]
        self._unheard.popleft()
        # v4's namespace has a reply of its own before.
        return found[:-1] if self.namespace != "/" and found and found[-1].name == "credentialError" else found

    def wait_until_closed(self, timeout: float = SECONDS) -> None:
        """Read on until the server closes the connection; raises `TimeoutError`."""
        ends = monotonic() + timeout
        with contextlib.suppress(Closed):
            while True:
                self._pump(ends)

    def drop(self) -> None:
        """Lose the link: the connection is reset without a word."""
        self._websocket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._websocket.close()

    def close(self) -> None:
        """Leave in order."""
        self._websocket.close("1" if self._generation.pings else f"41{self._prefix}")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _prefix(self) -> str:
        return "" if self.namespace == "/" else f"{self.namespace},"

    def _enter(self) -> None:
        ends = monotonic() + SECONDS
        opened = self._websocket.receive(ends)
        assert isinstance(opened, str), opened
        assert opened.startswith("0"), opened
        greeting = json.loads(opened[1:])
        self._connection_id: str = greeting["sid"]
        self._ping_seconds: float = greeting["pingInterval"] / 1000
        self._next_ping = monotonic() + self._ping_seconds
        if self._generation.asks_for_default or self.namespace != "/":
            self._websocket.send(f"40{self._prefix}")
        while self._entered is None:
            self._pump(ends)

    def _ask_for(self, action: str, room: dict[str, Any]) -> None:
        before, self._unheard = self._unheard, deque()
        reply = self.ask(action, room)
        self._unheard.extendleft(reversed([*before, *(one for one in self.heard() if one.name not in _REPLIES)]))
        if not isinstance(reply, dict) or reply.get("event") != "success":
            raise JoinRefused(reply)

    def _send_event(self, number: str, event: str, arguments: tuple[Any, ...]) -> None:
        self._websocket.send(f"42{self._prefix}{number}{json.dumps([event, *arguments])}")

    def _pump(self, ends: float) -> None:
        """Take one message; raises `TimeoutError` and `Closed`."""
        if not self._generation.pings:
            self._take(self._websocket.receive(ends))
            return
        if monotonic() >= self._next_ping:
            self._websocket.send("2")
            self._next_ping = monotonic() + self._ping_seconds
        try:
            self._take(self._websocket.receive(min(ends, self._next_ping)))
        except TimeoutError:
            if monotonic() >= ends:
                raise

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._take_attachment(message.removeprefix(self._generation.before_attachment))
        elif message.startswith("2"):
            self._websocket.send("3" + message[1:])
        elif message.startswith("1"):
            raise Closed("the server has closed the connection")
        elif message.startswith("4"):
            self._take_packet(message[1:])

    def _take_packet(self, packet: str) -> None:
        match = _PACKET.fullmatch(packet)
        assert match is not None, packet
        kind, attachments, namespace, number, text = match.groups()
        if (namespace or "/").partition("?")[0] != self.namespace:
            return
        if attachments:
            self._attachments, self._partial = [], _Partial(int(attachments), kind, number, text)
        else:
            self._take_whole(kind, number, json.loads(text) if text else None)

    def _take_attachment(self, data: bytes) -> None:
        assert self._partial is not None, "an attachment without its packet"
        self._attachments.append(data)
        if len(self._attachments) == self._partial.missing:
            partial, self._partial = self._partial, None
            self._take_whole(partial.kind, partial.number, _filled(json.loads(partial.text), self._attachments))

    def _take_whole(self, kind: str, number: str, data: Any) -> None:
        if kind == "0":
            # socket.io-client 2.x shows the connection's id, 3.x and later the one that the namespace gave.
            self._entered = data["sid"] if isinstance(data, dict) else self._connection_id
        elif kind in "25" and data[0] == "position":
            self.position = data[1]
        elif kind in "25":
            self._unheard.append(Heard(data[0], data[1] if len(data) > 1 else None))
        elif kind in "36":
            self._acknowledged[int(number)] = data[0] if data else None
        else:
            raise Closed(f"the server has refused the namespace {self.namespace}: {data}")


def _is_answer(heard: Heard, asked: dict[str, int]) -> bool:
    name, data = heard
    return name == "error" and isinstance(data, dict) and data.get("details", {}).get("data") == asked


def _filled(value: Any, attachments: list[bytes]) -> Any:
    """Return the value with its attachments in their places."""
    if isinstance(value, list):
        return [_filled(item, attachments) for item in value]
    if isinstance(value, dict):
        if value.get("_placeholder"):
            return attachments[value["num"]]
        return {key: _filled(item, attachments) for key, item in value.items()}
    return value
