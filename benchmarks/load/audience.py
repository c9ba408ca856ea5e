"""Many clients in one epoll set: they connect, join a room, listen, stall, and go."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.load.drain import Drained, drain
from benchmarks.load.frames import masked, upgrade_request

CONNECT_SECONDS = 120.0
WAKE_SECONDS = 2.0
QUIET_SECONDS = 0.3
# Source addresses: one has 28,000 ports, and those of the round before may not be free yet.
SOURCES = tuple(f"127.0.0.{last}" for last in range(2, 10))
# Not in socket before Python 3.12 (ip(7)): the port is chosen when connecting, per destination.
IP_BIND_ADDRESS_NO_PORT = 24
# Of Engine.IO's heartbeats, in WebSocket frames.
PING_FRAME, PONG_FRAME = b"\x81\x012", masked(b"3")
REFUSALS = (b'42["error"', b"44{", b"HTTP/1.1 4", b"HTTP/1.1 5")


class LoadError(Exception):
    """A client did not get what it needs to take part; the text shows what it got."""


@dataclass(frozen=True)
class Script:
    """How a client gets into the room: what it sends, and what it waits for before the next.

    An empty script is a bare TCP connection.
    """

    host: str
    port: int
    steps: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def joining(cls, host: str, port: int, path: str, cookie: str, join: bytes) -> Script:
        """Return the script of a v5 frontend: handshake, default namespace, one join; `join` is the event's packet."""
        steps = (
            (upgrade_request(host, port, path, cookie), b'"sid"'),
            (masked(b"40"), b'40{"sid"'),
            (masked(join), b'42["message"'),
        )
        return cls(host, port, steps)


@dataclass(frozen=True)
class Limits:
    """What the kernel takes for a client: bytes of its receive buffer, bytes of a TCP segment; 0: as usual."""

    receive_buffer: int = 0
    segment: int = 0


UNLIMITED = Limits()


@dataclass
class _Entering:
    """A client on its way into the room."""

    client: socket.socket
    steps: Iterator[tuple[bytes, bytes]]
    awaited: bytes = b""
    received: bytearray = field(default_factory=bytearray)


class Audience:
    """The clients of one load process, against one server."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._clients: dict[int, socket.socket] = {}
        self._stalled: dict[int, socket.socket] = {}
        self._made = 0

    def connect(self, script: Script, count: int, window: int = 64, limits: Limits = UNLIMITED) -> float:
        """Bring `count` more clients into the room, at most `window` of them on their way at once; return the seconds.

        `limits` bound what the kernel takes for them. Raises `LoadError` when one is refused.
        """
        started = time.monotonic()
        entering: dict[int, _Entering] = {}
        epoll = select.epoll()
        left = count
        while left or entering:
            while left and len(entering) < window:
                found = _Entering(self._open(script, limits), iter(script.steps))
                left -= 1
                if self._proceed(found):
                    continue
                entering[found.client.fileno()] = found
                epoll.register(found.client, select.EPOLLIN)
            for number, _ in epoll.poll(1.0):
                if self._received(entering[number]):
                    epoll.unregister(number)
                    del entering[number]
            if time.monotonic() - started > CONNECT_SECONDS:
                raise LoadError(f"{len(entering) + left} of {count} clients are not in after {CONNECT_SECONDS:g} s")
        epoll.close()
        return time.monotonic() - started

    def drain(self, want: int, seconds: float, quiet: float = -1.0, ages: int = 0) -> Drained:
        """Read what comes for the clients that have not stalled; see `benchmarks.load.drain.drain`."""
        return drain(self._epoll, want, seconds, quiet, ages)

    def answer_pings(self, seconds: float) -> int:
        """Answer the pings of the server's heartbeats for so long; return how many there were.

        Raises `LoadError` where anything else comes: it is for clients of whom nobody hears.
        """
        deadline = time.monotonic() + seconds
        pings = 0
        while (left := deadline - time.monotonic()) > 0:
            for number, _ in self._epoll.poll(left):
                client = self._clients[number]
                received = client.recv(65_536)
                if not received:
                    raise LoadError("the server has ended an idle connection")
                count, rest = divmod(len(received), len(PING_FRAME))
                if rest or received != PING_FRAME * count:
                    raise LoadError(f"instead of a ping came {received[:100]!r}")
                client.send(PONG_FRAME * count)
                pings += count
        return pings

    def stall(self, script: Script, count: int, limits: Limits) -> None:
        """Bring `count` clients into the room that never read again."""
        before = set(self._clients)
        self.connect(script, count, limits=limits)
        for number in self._clients.keys() - before:
            self._epoll.unregister(number)
            self._stalled[number] = self._clients.pop(number)

    def leave(self, count: int) -> None:
        """Close the `count` oldest clients, without a word, as a laptop that is shut."""
        for number in list(self._clients)[:count]:
            self._clients.pop(number).close()

    def wake(self) -> int:
        """Let the stalled clients read what there is; return how many of them find their connection ended."""
        with select.epoll() as epoll:
            for client in self._stalled.values():
                epoll.register(client, select.EPOLLIN)
            return drain(epoll, -1, WAKE_SECONDS, QUIET_SECONDS).closed

    def _open(self, script: Script, limits: Limits) -> socket.socket:
        client = socket.socket()
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_RCVBUF, limits.receive_buffer),
            (socket.IPPROTO_TCP, socket.TCP_MAXSEG, limits.segment),
        ):
            if value:
                client.setsockopt(level, option, value)
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((SOURCES[self._made % len(SOURCES)], 0))
        self._made += 1
        # On loopback this is done at once, or the listener's backlog is full and waiting is right.
        client.connect((script.host, script.port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        return client

    def _proceed(self, found: _Entering) -> bool:
        """Take the next step; return whether the client is in."""
        step = next(found.steps, None)
        if step is None:
            self._clients[found.client.fileno()] = found.client
            self._epoll.register(found.client, select.EPOLLIN)
            return True
        data, found.awaited = step
        found.received.clear()
        found.client.send(data)
        return False

    def _received(self, found: _Entering) -> bool:
        data = found.client.recv(65_536)
        found.received += data
        if not data or any(refusal in found.received for refusal in REFUSALS):
            raise LoadError(f"a client was refused: {bytes(found.received[-300:])!r}")
        return found.awaited in found.received and self._proceed(found)
