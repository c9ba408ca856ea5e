"""A client that comes back as socket.io-client 4.6 and later does, on the wire: it keeps its `pid` and its offset."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import websocket

from tests.support.raw import PING, PONG, SECONDS

Json = Any
_MISSING: Any = object()


@dataclass
class Returning:
    """One client in one namespace. `heard` has what came since it was last asked: pairs of a name and its arguments."""

    url: str
    cookie: str = ""
    namespace: str = "/"
    pid: str | None = None
    offset: str | None = None
    sid: str | None = None
    heard: list[tuple[str, list[Json]]] = field(default_factory=list)
    recovered: bool = False
    eio: int = 4
    # Bytes that the kernel takes for it while it does not read.
    receive_buffer: int | None = None
    acknowledged: dict[int, Json] = field(default_factory=dict)
    _connection: websocket.WebSocket | None = None
    # Whether it is told positions for having joined since one.
    since: bool = False
    _asked: int = 0
    _told: bool = False

    def connect(self, *, auth: Json = _MISSING) -> Returning:
        """Connect, or come back; `auth` instead of what the client has kept."""
        address = self.url.replace("http", "ws", 1) + f"/chat/?EIO={self.eio}&transport=websocket"
        buffer = () if self.receive_buffer is None else ((socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer),)
        self._connection = websocket.create_connection(
            address, timeout=SECONDS, cookie=self.cookie or None, sockopt=buffer
        )
        assert self._receive()[0] == "0"
        if self.eio == 3:
            # Its clients are in the default namespace by themselves.
            assert self._receive() == "40"
            self._told = True
            return self
        if auth is _MISSING:
            auth = {"pid": self.pid, "offset": self.offset} if self.pid is not None else None
            if auth is not None and self.offset is None:
                del auth["offset"]
        head = "40" if self.namespace == "/" else f"40{self.namespace},"
        self._connection.send(head + (json.dumps(auth) if auth is not None else ""))
        packet = self._receive()
        assert packet.startswith("40"), packet
        answer = json.loads(packet[packet.index("{") :])
        self.recovered = self.pid is not None and answer.get("pid") == self.pid
        if self.recovered:
            assert answer["sid"] == self.sid
        self.sid, self.pid = answer["sid"], answer.get("pid")
        return self

    def drop(self) -> None:
        """Lose the link: nothing is said to the server but that TCP has ended, and it at once."""
        assert self._connection is not None
        raw = self._connection.sock
        assert raw is not None
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
        self._connection = None

    def vanish(self) -> websocket.WebSocket:
        """Lose the link without the server's noticing; the old connection, to be closed at the end."""
        assert self._connection is not None
        old, self._connection = self._connection, None
        return old

    def peek(self) -> None:
        """Wait until something has arrived, and leave it there."""
        assert self._connection is not None
        raw = self._connection.sock
        assert raw is not None
        assert raw.recv(1, socket.MSG_PEEK)

    def send(self, packet: str) -> None:
        assert self._connection is not None
        self._connection.send(packet)

    def emit(self, event: str, *arguments: Json, told: bool = True) -> Json:
        """Emit and return the acknowledgement; unless `told` is false, once the position behind it has arrived."""
        self._asked += 1
        head = "42" if self.namespace == "/" else f"42{self.namespace},"
        self.send(f"{head}{self._asked}{json.dumps([event, *arguments])}")
        while self._asked not in self.acknowledged:
            self._take(self._receive())
        reply = self.acknowledged.pop(self._asked)
        self.since |= isinstance(reply, dict) and "position" in reply
        while told and not self._is_told:
            self._take(self._receive())
        return reply

    def join(self, room: Json) -> Json:
        """Join a room and return the reply; it is left out of `heard`, and so is everything before it."""
        reply = self.emit("join", room)
        self.heard.clear()
        return reply

    def hear(self, number: int) -> list[tuple[str, list[Json]]]:
        """Wait for so many events, and the position behind them, and return them."""
        while len(self.heard) < number or not self._is_told:
            self._take(self._receive())
        found, self.heard = self.heard[:number], self.heard[number:]
        return found

    def heard_so_far(self) -> list[tuple[str, list[Json]]]:
        """Everything that the server sent until now: what is asked is answered behind it."""
        self.emit("leave", {"notifications": True})
        # Its own reply stands at the end.
        found, self.heard = [each for each in self.heard if each[0] not in ("error", "message")], []
        return found

    @property
    def _is_told(self) -> bool:
        return self._told or (self.pid is None and not self.since)

    def _receive(self) -> str:
        assert self._connection is not None
        while (packet := str(self._connection.recv())) == PING:
            self._connection.send(PONG)
        assert packet, "the server has closed"
        return packet

    def _take(self, packet: str) -> None:
        kind, rest = packet[:2], packet[2:]
        if rest.startswith("/"):
            rest = rest.partition(",")[2]
        if kind == "43":
            number, _, data = rest.partition("[")
            self.acknowledged[int(number)] = json.loads("[" + data)[0]
            return
        assert kind == "42", packet
        event, *arguments = json.loads(rest)
        # As socket.io-client does: the last argument of any event, if it is a string.
        if arguments and isinstance(arguments[-1], str):
            self.offset = arguments[-1]
        self._told = event == "position"
        if not self._told:
            self.heard.append((event, arguments))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Returning:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
