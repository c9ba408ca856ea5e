"""Clients that stay: whoever loses the connection tries again, as socket.io-client 4.6 does, until it is in."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

from benchmarks.load.crowd import ENTERING_AT_ONCE, QUIET_SECONDS, SEED, Crowd, Heard, Member
from benchmarks.load.recovering import Recovering

# The number of the event that follows all others in each room.
END, END_SECONDS = 0, 10.0
# socket.io-client's `reconnectionDelay`, `reconnectionDelayMax` and `randomizationFactor`.
DELAY_SECONDS, MOST_DELAY_SECONDS, VARY = 1.0, 5.0, 0.5


@dataclass(frozen=True)
class Plan:
    """Who stays where, and for how long at most: until everybody has heard the last event, or `seconds` are over.

    Once somebody has heard it, the others have `END_SECONDS`.

    Each client is in one room, that of its number in turn; `joins` are the frames that join the rooms.
    """

    host: str
    port: int
    handshake: bytes
    joins: Sequence[bytes]
    clients: int
    seconds: float


@dataclass
class Stay:
    """What became of it.

    By an event's number: how many clients `heard` it, and how often it came `again` to one that had it. A connection of
    a client that was in its room counts as `lost`; `refused` are attempts that failed. The last client was in its room
    at `back` (ns of CLOCK_MONOTONIC), `away` are not at the end; `longest` is the longest absence in seconds.
    `gaps` counts what clients were told of what they cannot have any more.
    """

    heard: Counter[int] = field(default_factory=Counter)
    again: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    refused: int = 0
    reconnections: int = 0
    recovered: int = 0
    back: int = 0
    away: int = 0
    longest: float = 0.0
    gaps: Counter[str] = field(default_factory=Counter)


def stay(plan: Plan) -> Stay:
    """Carry out a plan; raises `LoadError` where no client would go on."""
    with closing(Crowd[_Client](plan.host, plan.port)) as crowd:
        return _Staying(plan, crowd).live()


def delay(attempts: int, vary: float) -> float:
    """Return the seconds before the next attempt after so many in vain; `vary` is from -1 to 1."""
    return min(MOST_DELAY_SECONDS, DELAY_SECONDS * 2.0**attempts * (1 + VARY * vary))


@dataclass
class _Client(Member):
    """A client, what it heard, and how it fares."""

    heard: set[int] = field(default_factory=set)
    is_in: bool = False
    attempts: int = 0
    lost_at: int = 0


class _Staying:
    """The clients of a plan, and what becomes of them."""

    def __init__(self, plan: Plan, crowd: Crowd[_Client]) -> None:
        self._crowd = crowd
        self._random = random.Random(SEED)
        self._clients = [
            _Client(number, Recovering(plan.handshake, [plan.joins[number % len(plan.joins)]]))
            for number in range(plan.clients)
        ]
        self._begun = self._arrived = self._inside = 0
        self._news = time.monotonic()
        self._limit = self._news + plan.seconds
        self._stay = Stay()

    def live(self) -> Stay:
        """Bring everybody in, and back, until it is over; return what became of them."""
        while not self._is_over() and time.monotonic() < self._limit:
            while self._begun < len(self._clients) and self._begun - self._arrived < ENTERING_AT_ONCE:
                self._crowd.connect(self._clients[self._begun])
                self._begun += 1
            for _ in self._crowd.bring_back():
                pass
            for client, heard in self._crowd.look():
                if heard is None:
                    self._lose(client)
                else:
                    self._note(client, heard)
        self._stay.away = len(self._clients) - self._inside
        self._stay.reconnections = sum(max(0, client.protocol.connects - 1) for client in self._clients)
        self._stay.recovered = sum(client.protocol.recoveries for client in self._clients)
        self._stay.gaps = Counter(reason for client in self._clients for reason in client.protocol.gaps)
        return self._stay

    def _is_over(self) -> bool:
        """Whether everybody is in and has heard the last event, and what might have come twice has come."""
        everybody = len(self._clients)
        done = self._inside == everybody == self._stay.heard[END]
        return done and time.monotonic() > self._news + QUIET_SECONDS

    def _note(self, client: _Client, heard: Heard) -> None:
        for ticket in heard.tickets:
            (self._stay.again if ticket.number in client.heard else self._stay.heard)[ticket.number] += 1
            client.heard.add(ticket.number)
            if ticket.number == END:
                self._limit = min(self._limit, time.monotonic() + END_SECONDS)
        if heard.tickets:
            self._news = time.monotonic()
        if client.protocol.entered and not client.is_in:
            self._note_entry(client)

    def _note_entry(self, client: _Client) -> None:
        self._stay.back = time.monotonic_ns()
        if client.lost_at:
            self._stay.longest = max(self._stay.longest, (self._stay.back - client.lost_at) / 1e9)
        else:
            self._arrived += 1
        client.is_in, client.attempts = True, 0
        self._inside += 1

    def _lose(self, client: _Client) -> None:
        """Count the end of a connection, and have the client try again in a while."""
        if client.is_in:
            self._stay.lost += 1
            client.lost_at = time.monotonic_ns()
            self._inside -= 1
        else:
            self._stay.refused += 1
        client.is_in = False
        self._crowd.lose(client, delay(client.attempts, self._random.uniform(-1, 1)))
        client.attempts += 1
