"""Hostile clients, many at once: `python -m tests.security.hostiles <port> <how many> <room>`, until its input ends.

Each kind is a function of an `Attack`, which is called again, after a breath, whenever it comes back or is cut off.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

TEXT, PING = 0x81, 0x89
SECONDS = 5.0
# What a hostile client waits between two pieces: a hundred of them share two processors with who they attack.
BREATH = 0.2


class Cut(Exception):
    """The server has ended the connection, or says no more."""


@dataclass
class Attack:
    """One hostile client: the port that it attacks, and the room that it would join."""

    port: int
    room: str
    over: threading.Event
    _sockets: list[socket.socket] = field(default_factory=list)

    def open(self, receive_buffer: int = 0) -> socket.socket:
        """A connection, closed when the attack is."""
        found = socket.socket()
        self._sockets.append(found)
        if receive_buffer:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        found.settimeout(SECONDS)
        found.connect(("127.0.0.1", self.port))
        return found

    def websocket(self, generation: int = 4, receive_buffer: int = 0) -> socket.socket:
        """A WebSocket; what comes from the server is left unread, but for the handshake's answer."""
        found = self.open(receive_buffer)
        found.sendall(request(f"/chat/?EIO={generation}&transport=websocket", upgrade=True))
        if not found.recv(65_536).startswith(b"HTTP/1.1 101 "):
            raise Cut
        return found

    def breathe(self) -> bool:
        """Wait a little; false where the attack is over."""
        return not self.over.wait(BREATH)

    def close(self) -> None:
        """Close every connection."""
        while self._sockets:
            self._sockets.pop().close()


def request(target: str, body: bytes = b"", *, method: str = "GET", length: int | None = None, upgrade: bool = False,
            headers: str = "") -> bytes:
    """An HTTP request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    if body or length is not None:
        lines += [f"Content-Length: {len(body) if length is None else length}"]
    return ("\r\n".join(lines) + f"\r\n{headers}\r\n").encode() + body


def frame(kind: int, payload: bytes) -> bytes:
    """A client's frame, masked with zeros (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB4x", kind, 0x80 | size) + payload
    if size < 65_536:
        return struct.pack("!BBH4x", kind, 0x80 | 126, size) + payload
    return struct.pack("!BBQ4x", kind, 0x80 | 127, size) + payload


def drain(source: socket.socket) -> None:
    """Read what has come; `Cut` where the server has closed."""
    source.setblocking(False)
    try:
        while True:
            if not source.recv(262_144):
                raise Cut
    except BlockingIOError:
        pass
    finally:
        source.settimeout(SECONDS)


def flood(client: socket.socket, attack: Attack, piece: bytes, *, reading: bool = True) -> None:
    """Send a piece again and again."""
    while attack.breathe():
        client.sendall(piece)
        if reading:
            drain(client)


def joined(attack: Attack, **options: int) -> socket.socket:
    client = attack.websocket(**options)
    client.sendall(frame(TEXT, b"40"))
    return client


def refused_events(attack: Attack) -> None:
    """Have big refused events echoed, with one attachment named many times."""
    client = joined(attack)
    named = ",".join(['{"_placeholder":true,"num":0}'] * 100)
    text = frame(TEXT, f'451-["nonsense",[{named}]]'.encode())
    flood(client, attack, text + frame(0x82, b"x" * 20_000) + frame(TEXT, b'42["join",["%s"]]' % (b"y" * 20_000)))


def pongs(attack: Attack) -> None:
    flood(joined(attack), attack, frame(TEXT, b"3") * 100)


def old_pings(attack: Attack) -> None:
    """Engine.IO 3, where the client pings."""
    flood(attack.websocket(generation=3), attack, frame(TEXT, b"2") * 100)


def pings(attack: Attack) -> None:
    """WebSocket pings, whose pongs are not read."""
    flood(joined(attack), attack, frame(PING, b"x" * 100) * 100, reading=False)


def unread_replies(attack: Attack) -> None:
    """Ask, and never read an answer."""
    flood(joined(attack, receive_buffer=4096), attack, frame(TEXT, b'420["leave",{"room":1}]') * 20, reading=False)


def bodies(attack: Attack) -> None:
    """POST bodies of which one byte comes at a time."""
    client = attack.open()
    client.sendall(request("/chat/?EIO=4&transport=polling&sid=x", method="POST", length=200_000))
    flood(client, attack, b"x")


def headers(attack: Attack) -> None:
    """A handshake with more headers than anybody needs."""
    many = "".join(f"X-{number}: {'x' * 8_000}\r\n" for number in range(90))
    client = attack.open()
    client.sendall(request("/chat/?EIO=4&transport=websocket", upgrade=True, headers=many))
    flood(client, attack, frame(TEXT, b"3"))


def namespaces(attack: Attack) -> None:
    """CONNECTs to namespaces that do not exist."""
    client = joined(attack)
    for number in count():
        if not attack.breathe():
            return
        client.sendall(b"".join(frame(TEXT, f"40/none{number}-{index},".encode()) for index in range(20)))
        drain(client)


def unfinished(attack: Attack) -> None:
    """Packets whose last attachment never comes."""
    client = joined(attack)
    client.sendall(frame(TEXT, b'452-["join",{"_placeholder":true,"num":0}]') + frame(0x82, b"x" * 200_000))
    while attack.breathe():
        drain(client)


def joins(attack: Attack) -> None:
    """Join without a right, as often as one can."""
    flood(joined(attack), attack, frame(TEXT, f'420["join",{attack.room}]'.encode()) * 20)


def untaken_polls(attack: Attack) -> None:
    """A polling session that posts and never polls."""
    client = attack.open()
    client.sendall(request("/chat/?EIO=4&transport=polling"))
    answer = client.recv(65_536)
    sid = json.loads(answer[answer.index(b"{") :])["sid"]
    target = f"/chat/?EIO=4&transport=polling&sid={sid}"
    client.sendall(request(target, b"40", method="POST"))
    flood(client, attack, request(target, b"\x1e".join([b'420["leave",{"room":1}]'] * 20), method="POST"))


KINDS: tuple[Callable[[Attack], None], ...] = (
    refused_events, pongs, old_pings, pings, unread_replies, bodies, headers, namespaces, unfinished, joins,
    untaken_polls,
)  # fmt: skip


def besiege(kind: Callable[[Attack], None], attack: Attack) -> None:
    """Attack in one way until it is over."""
    while not attack.over.is_set():
        with suppress(Cut, OSError, ValueError):
            kind(attack)
        attack.close()
        attack.breathe()


def main(port: int, number: int, room: str) -> None:
    # Real ones have processors of their own: here they are to attack the server, not the one who measures.
    os.nice(10)
    over = threading.Event()
    threads = [
        threading.Thread(target=besiege, args=(KINDS[index % len(KINDS)], Attack(port, room, over)))
        for index in range(number)
    ]
    for thread in threads:
        thread.start()
    print("under siege", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
