"""Clients that come back, in one epoll set: whoever has lost its connection begins another one at its time."""

from __future__ import annotations

import heapq
import math
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from benchmarks.load.audience import IP_BIND_ADDRESS_NO_PORT
from benchmarks.load.recovering import HandshakeRefused, Recovering, Ticket

CHUNK = 1 << 18
LOOK_SECONDS = 0.1
ENTERING_AT_ONCE = 64
# Of the others so many are read before it is looked again whether somebody who comes first has heard something.
FEW = 5
# After the last event: nothing new for so long ends a run.
QUIET_SECONDS = 1.0
# Of the random times: each run has the same.
SEED = 1


@dataclass
class Member:
    """A client; it has a socket while it is not away. Who comes `first` is read before the others."""

    number: int
    protocol: Recovering
    socket: socket.socket | None = None
    connecting: bool = False
    first: bool = False


class Heard(NamedTuple):
    """What one read brought, `at` in ns of CLOCK_MONOTONIC."""

    tickets: list[Ticket]
    at: int


M = TypeVar("M", bound=Member)


class Crowd(Generic[M]):
    """The connections of one load process to one server. No call waits but `look`."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._epoll, self._first = select.epoll(), select.epoll()
        # Whoever waits for any of them wakes for those that come first.
        self._epoll.register(self._first, select.EPOLLIN)
        self._open: dict[int, M] = {}
        self._returns: list[tuple[float, int, M]] = []

    @property
    def all_there(self) -> bool:
        """Whether nobody waits for its next connection."""
        return not self._returns

    def close(self) -> None:
        """Close every connection."""
        for member in self._open.values():
            assert member.socket is not None
            member.socket.close()
        self._epoll.close()
        self._first.close()

    def connect(self, member: M, *, first: bool = False) -> None:
        """Begin a connection, of a client that comes `first` until it is put `behind`."""
        found = socket.socket()
        found.setblocking(False)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        # Each from an address of its own, by which a proxy in front tells clients apart.
        found.bind((f"127.0.{1 + member.number // 200}.{1 + member.number % 200}", 0))
        # Where nobody listens, the first `send` says so.
        found.connect_ex(self._address)
        member.socket, member.connecting, member.first = found, True, first
        self._open[found.fileno()] = member
        self._set_of(member).register(found, select.EPOLLOUT)

    def _set_of(self, member: M) -> select.epoll:
        return self._first if member.first else self._epoll

    def behind(self, member: M) -> None:
        """Have a client, which is connected, come first no longer."""
        assert member.socket is not None
        self._first.unregister(member.socket)
        self._epoll.register(member.socket, select.EPOLLIN)
        member.first = False

    def lose(self, member: M, away: float) -> None:
        """Close a connection; the client is due back in `away` seconds."""
        assert member.socket is not None
        del self._open[member.socket.fileno()]
        # Also takes it out of the epoll set.
        member.socket.close()
        member.socket = None
        heapq.heappush(self._returns, (time.monotonic() + away, member.number, member))

    def bring_back(self, *, first: bool = False) -> Iterator[M]:
        """Begin a connection for each client that is due back; yield it."""
        while self._returns and self._returns[0][0] <= time.monotonic():
            _, _, member = heapq.heappop(self._returns)
            self.connect(member, first=first)
            yield member

    def look(self, seconds: float = LOOK_SECONDS) -> Iterator[tuple[M, Heard | None]]:
        """Yield who has heard something, None where the connection has ended; `lose` is then for the caller.

        It waits no longer than until somebody is due back. Raises `LoadError` where no client would go on.
        """
        due = self._returns[0][0] - time.monotonic() if self._returns else math.inf
        ready = [number for number, _ in self._epoll.poll(max(0.0, min(seconds, due)))]
        for place, number in enumerate(ready):
            if place % FEW == 0:
                yield from map(self._hear, [found for found, _ in self._first.poll(0)])
            if number != self._first.fileno():
                yield self._hear(number)

    def _hear(self, number: int) -> tuple[M, Heard | None]:
        member = self._open[number]
        try:
            return member, self._exchange(member)
        except (OSError, HandshakeRefused):
            return member, None

    def _exchange(self, member: M) -> Heard:
        """Begin what a connection says, or read once and answer; raises `OSError` at its end."""
        assert member.socket is not None
        if member.connecting:
            member.socket.send(member.protocol.begin())
            member.connecting = False
            self._set_of(member).modify(member.socket, select.EPOLLIN)
            return Heard([], time.monotonic_ns())
        data = member.socket.recv(CHUNK)
        at = time.monotonic_ns()
        if not data:
            raise ConnectionResetError
        reply, tickets = member.protocol.receive(data)
        # What came is heard, whatever becomes of the connection: its end is what the next read finds.
        with suppress(ConnectionError):
            if reply:
                member.socket.send(reply)
        return Heard(tickets, at)
