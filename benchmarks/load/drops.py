"""Clients whose connections are cut again and again: what each gets of what it should, how often, and how soon."""

from __future__ import annotations

import heapq
import random
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

from benchmarks.load.audience import CONNECT_SECONDS, LoadError
from benchmarks.load.crowd import CHUNK, ENTERING_AT_ONCE, LOOK_SECONDS, QUIET_SECONDS, SEED, Crowd, Member
from benchmarks.load.ledger import Ledger
from benchmarks.load.recovering import Recovering

# After the last event.
LIMIT_SECONDS = 30.0
PUBLISHED = b"HTTP/1.1 200"
# Times between two drops of a client vary by as much, so that the clients do not come back in step.
JITTER = 0.2
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
class _Client(Member):
    """A client and what it got."""

    ledger: Ledger = field(kw_only=True)


def drop_and_recover(plan: Plan) -> Recovery:
    """Carry out a plan; raises `LoadError`."""
    with closing(Crowd[_Client](plan.host, plan.port)) as crowd:
        drops = _Drops(plan, crowd)
        drops.enter()
        drops.follow()
        return drops.found()


class _Drops:
    """The clients of a plan, and when each is dropped."""

    def __init__(self, plan: Plan, crowd: Crowd[_Client]) -> None:
        self._plan, self._crowd = plan, crowd
        self._random = random.Random(SEED)
        expected = {rooms: plan.expected(rooms) for rooms in set(plan.members)}
        self._clients = [
            _Client(
                number,
                Recovering(plan.handshake, [plan.joins[room] for room in rooms]),
                ledger=Ledger(expected[rooms], bytearray(plan.events)),
            )
            for number, rooms in enumerate(plan.members)
        ]
        # When, and which client: it is dropped where it is there.
        self._drops: list[tuple[float, int]] = []
        self._began: int | None = None
        self._ended = 0
        self._news = time.monotonic()

    def enter(self) -> None:
        """Bring every client into its rooms."""
        limit = time.monotonic() + CONNECT_SECONDS
        waiting = iter(self._clients)
        entering: list[_Client] = []
        while True:
            entering = [client for client in entering if not client.protocol.entered]
            for client in islice(waiting, ENTERING_AT_ONCE - len(entering)):
                self._crowd.connect(client)
                entering.append(client)
            if not entering:
                break
            self._hear(LOOK_SECONDS)
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
                self._bring_back()
                self._hear(min(LOOK_SECONDS, self._drops[0][0] - time.monotonic()))
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
        while not answer or not self._crowd.all_there or time.monotonic() < self._news + QUIET_SECONDS:
            self._bring_back()
            self._hear(LOOK_SECONDS)
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

    def _lose(self, client: _Client) -> None:
        client.ledger.dropped()
        self._crowd.lose(client, self._plan.away)

    def _bring_back(self) -> None:
        for client in self._crowd.bring_back(first=True):
            now = time.monotonic_ns()
            self._news = now / 1e9
            if self._began is not None:
                client.ledger.back(now, self._began, self._plan.interval_ns)

    def _hear(self, seconds: float) -> None:
        """Hear what has come, waiting for it no longer than that."""
        for client, heard in self._crowd.look(seconds):
            if heard is None:
                self._ended += 1
                self._lose(client)
                continue
            for ticket in heard.tickets:
                client.ledger.hear(ticket.number, heard.at)
            if client.first and client.protocol.entered and client.ledger.caught_up:
                self._crowd.behind(client)
            if heard.tickets:
                self._news = heard.at / 1e9
                if self._began is None:
                    self._began = heard.tickets[0].due - heard.tickets[0].number * self._plan.interval_ns


def _answer(publisher: socket.socket) -> bytes:
    """Return what the server answers when all is published, nothing before that."""
    try:
        return publisher.recv(CHUNK)
    except BlockingIOError:
        return b""
