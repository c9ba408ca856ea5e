"""Clients whose connections are cut again and again: what each gets of what it should, how often, and how soon."""

from __future__ import annotations

import heapq
import math
import random
import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from benchmarks.load.audience import CONNECT_SECONDS, LoadError
from benchmarks.load.ledger import Ledger
from benchmarks.load.recovering import Recovering, Ticket

ENTERING_AT_ONCE = 64
# After the last event: nothing new for so long ends it, and so does the limit.
QUIET_SECONDS = 1.0
LIMIT_SECONDS = 30.0
LOOK_SECONDS = 0.1
CHUNK = 1 << 18
PUBLISHED = b"HTTP/1.1 200"
# Times between two drops of a client vary by as much, so that the clients do not come back in step.
JITTER = 0.2
SEED = 1
# Closes with a reset and without a word, and leaves no port in TIME_WAIT (socket(7)).
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Plan:
    """Who is in which room, what is published, and how often each connection is lost.

    `joins` are the frames that join the rooms, `members` the rooms of each client, by number. Event number n goes to
    the room `turns[n % len(turns)]`. `publish` is the request that has the server publish. A client is dropped about
    `every` seconds while events are published for `seconds`, and comes back `away` seconds later.
    """

    host: str
    port: int
    handshake: bytes
    joins: Sequence[bytes]
    members: Sequence[tuple[int, ...]]
    turns: Sequence[int]
    publish: bytes
    events: int
    interval_ns: int
    seconds: float
    every: float
    away: float

    def expected(self, rooms: tuple[int, ...]) -> list[int]:
        """Return the numbers of the events that a client in these rooms should get."""
        return [number for number in range(self.events) if self.turns[number % len(self.turns)] in rooms]


@dataclass(frozen=True)
class Recovery:
    """What became of it.

    `received` of the `expected` events came; `repeats` and the sorted `replays` are those of all ledgers. Of the
    `reconnections` that the server answered `recovered` were recovered. It ended `ended` connections itself.
    """

    expected: int
    received: int
    repeats: int
    replays: list[float]
    reconnections: int
    recovered: int
    ended: int


@dataclass
class _Client:
    """A client and what it got; it has a socket while it is not away."""

    number: int
    protocol: Recovering
    ledger: Ledger
    socket: socket.socket | None = None


def drop_and_recover(plan: Plan) -> Recovery:
    """Carry out a plan; raises `LoadError`."""
    with closing(_Crowd(plan)) as crowd:
        crowd.enter()
        crowd.follow()
        return crowd.found()


class _Crowd:
    """The clients of a plan in one epoll set."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(SEED)
        expected = {rooms: plan.expected(rooms) for rooms in set(plan.members)}
        self._clients = [
            _Client(
                number,
                Recovering(plan.handshake, [plan.joins[room] for room in rooms]),
                Ledger(expected[rooms], bytearray(plan.events)),
            )
            for number, rooms in enumerate(plan.members)
        ]
        self._epoll = select.epoll()
        self._open: dict[int, _Client] = {}
        # When, and which client: it is dropped when it is there, and comes back when it is not.
        self._drops: list[tuple[float, int]] = []
        self._returns: list[tuple[float, int]] = []
        self._began: int | None = None
        self._ended = 0
        self._news = time.monotonic()

    def close(self) -> None:
        """Close every connection."""
        for client in self._open.values():
            assert client.socket is not None
            client.socket.close()
        self._epoll.close()

    def enter(self) -> None:
        """Bring every client into its rooms."""
        limit = time.monotonic() + CONNECT_SECONDS
        waiting = iter(self._clients)
        entering: list[_Client] = []
        while True:
            entering = [client for client in entering if not client.protocol.entered]
            for client in islice(waiting, ENTERING_AT_ONCE - len(entering)):
                self._connect(client)
                entering.append(client)
            if not entering:
                break
            self._poll(LOOK_SECONDS)
            if self._ended or time.monotonic() > limit:
                raise LoadError(f"{len(entering)} clients are not in, {self._ended} were sent away")

    def follow(self) -> None:
        """Have the events published; drop clients meanwhile, and bring them back."""
        begun = time.monotonic()
        with closing(self._ask()) as publisher:
            for number in range(len(self._clients)):
                heapq.heappush(self._drops, (begun + self._random.uniform(0, self._plan.every), number))
            stop = begun + self._plan.seconds
            while time.monotonic() < stop:
                self._drop_due()
                self._return_due()
                self._poll(LOOK_SECONDS)
            self._drops.clear()
            self._settle(publisher)

    def found(self) -> Recovery:
        """Return what became of all clients."""
        ledgers = [client.ledger for client in self._clients]
        for ledger in ledgers:
            ledger.dropped()
        return Recovery(
            expected=sum(len(ledger.expected) for ledger in ledgers),
            received=sum(ledger.delivered for ledger in ledgers),
            repeats=sum(ledger.repeats for ledger in ledgers),
            replays=sorted(seconds for ledger in ledgers for seconds in ledger.replays),
            reconnections=sum(client.protocol.connects - 1 for client in self._clients),
            recovered=sum(client.protocol.recoveries for client in self._clients),
            ended=self._ended,
        )

    def _ask(self) -> socket.socket:
        """Send the request that has the server publish."""
        publisher = socket.create_connection((self._plan.host, self._plan.port))
        publisher.sendall(self._plan.publish)
        return publisher

    def _settle(self, publisher: socket.socket) -> None:
        """Bring the last back, and wait until nothing new comes."""
        limit = time.monotonic() + LIMIT_SECONDS
        publisher.setblocking(False)
        answer = b""
        while not answer or self._returns or time.monotonic() < self._news + QUIET_SECONDS:
            self._return_due()
            self._poll(LOOK_SECONDS)
            answer = answer or _answer(publisher)
            if time.monotonic() > limit:
                break
        if not answer.startswith(PUBLISHED):
            raise LoadError(f"the server has not published everything: {answer[:300]!r}")

    def _drop_due(self) -> None:
        now = time.monotonic()
        while self._drops[0][0] <= now:
            at, number = heapq.heappop(self._drops)
            vary = self._random.uniform(1 - JITTER, 1 + JITTER)
            heapq.heappush(self._drops, (at + self._plan.every * vary, number))
            client = self._clients[number]
            if client.socket is not None:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                self._lose(client)

    def _return_due(self) -> None:
        while self._returns and self._returns[0][0] <= time.monotonic():
            _, number = heapq.heappop(self._returns)
            self._connect(self._clients[number])

    def _lose(self, client: _Client) -> None:
        """Close a connection, and have the client come back."""
        assert client.socket is not None
        del self._open[client.socket.fileno()]
        # Also takes it out of the epoll set.
        client.socket.close()
        client.socket = None
        client.ledger.dropped()
        heapq.heappush(self._returns, (time.monotonic() + self._plan.away, client.number))

    def _connect(self, client: _Client) -> None:
        now = time.monotonic_ns()
        self._news = now / 1e9
        if self._began is not None:
            client.ledger.back(now, self._began, self._plan.interval_ns)
        client.socket = socket.create_connection((self._plan.host, self._plan.port))
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.socket.setblocking(False)
        client.socket.send(client.protocol.begin())
        self._open[client.socket.fileno()] = client
        self._epoll.register(client.socket, select.EPOLLIN)

    def _poll(self, seconds: float) -> None:
        """Hear what has come, waiting for it no longer than until somebody has to go or come."""
        due = min((times[0][0] for times in (self._drops, self._returns) if times), default=math.inf)
        for number, _ in self._epoll.poll(max(0.0, min(seconds, due - time.monotonic()))):
            self._hear(self._open[number])

    def _hear(self, client: _Client) -> None:
        assert client.socket is not None
        tickets: list[Ticket] = []
        try:
            data = client.socket.recv(CHUNK)
            now = time.monotonic_ns()
            reply, tickets = client.protocol.receive(data)
            if reply:
                client.socket.send(reply)
        except ConnectionError:
            data, now = b"", time.monotonic_ns()
        for ticket in tickets:
            client.ledger.hear(ticket.number, now)
        if tickets:
            self._news = now / 1e9
            if self._began is None:
                self._began = tickets[0].due - tickets[0].number * self._plan.interval_ns
        if not data:
            self._ended += 1
            self._lose(client)


def _answer(publisher: socket.socket) -> bytes:
    """Return what the server answers when all is published, nothing before that."""
    try:
        return publisher.recv(CHUNK)
    except BlockingIOError:
        return b""
