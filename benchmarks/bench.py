"""A run: the peers, started side by side for a scenario, each with its clients, measured round by round in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pymongo import MongoClient

from benchmarks.figures import Key, Results
from benchmarks.load.audience import Audience, LoadError, Script
from benchmarks.load.drain import Drained
from benchmarks.load.frames import masked
from benchmarks.load.process import LoadProcess
from benchmarks.peers import Config, Generated, Order, Peer, Server, Unavailable, WebServer, launched
from benchmarks.process import cpu_seconds, settle
from benchmarks.sizes import Sizes
from repo_notify.testing.teamspaces import Teamspace

# Longer than any pause within a measurement, and what a calibration waits after the last byte.
QUIET_SECONDS = 0.15
DRAIN_SECONDS = 120.0
# The same where many events are published whose bytes are not known: a server may pause in the midst of them.
PAUSE_SECONDS = 0.5
# Of a server's WebSocket frame of less than 126 bytes (RFC 6455, section 5.2).
SHORT_HEADER_BYTES = 2


@dataclass(frozen=True)
class Traffic:
    """What one order brought: seconds from first event to last byte, what arrived, and the server's CPU time.

    `generated` is what the server itself says of it.
    """

    seconds: float
    drained: Drained
    cpu: float
    generated: Generated


@dataclass
class Contestant:
    """A running peer and its clients. `members` of them are in the room; a `frame` of one event has so many bytes."""

    peer: Peer
    server: Server
    load: LoadProcess
    script: Script
    members: int = 0
    frame: int = 0

    def grow(self, members: int) -> None:
        """Bring clients into the room until there are `members`."""
        self.load.call(Audience.connect, self.script, members - self.members)
        self.members = members

    def script_into(self, place: Mapping[str, str]) -> Script:
        """Return the script of a client that joins that room in the place of everybody's."""
        join = "42" + json.dumps(["join", place], separators=(",", ":"))
        (*before, (_, answer)) = self.script.steps
        return replace(self.script, steps=(*before, (masked(join.encode()), answer)))

    def calibrate(self, fill: int, borrowed: int = 0) -> None:
        """Learn how long a frame is, from one event; `borrowed` is for a peer that sends what it is told to."""
        self.frame = borrowed
        self.discard()
        received = self.traffic(Order(events=1, fill=fill), want=-1).drained.bytes
        if not received or received % self.members:
            raise LoadError(f"{self.peer.name}: one event brought {received} bytes to {self.members} clients")
        self.frame = received // self.members - (self._position_bytes() if self.peer.with_history else 0)

    def _position_bytes(self) -> int:
        """Return how long the frame is that follows an event where there is a history; in a burst not each has one."""
        position = cast("WebServer", self.server).ask("/notify/position").json()["position"]
        packet = "42" + json.dumps(["position", position], separators=(",", ":"))
        return SHORT_HEADER_BYTES + len(packet)

    def discard(self) -> None:
        """Read what has come, until no more comes."""
        self.load.call(Audience.drain, -1, DRAIN_SECONDS, QUIET_SECONDS)

    def publish(self, order: Order, ages: int = 0) -> Traffic:
        """Have it publish until all has arrived; raises `LoadError` when it has not in two minutes."""
        want = order.events * self.members * self.frame
        until = -1 if self.peer.with_history else want
        found = self.traffic(order, until, ages, PAUSE_SECONDS)
        if found.drained.bytes < want:
            raise LoadError(f"{self.peer.name}: of {want} bytes {found.drained.bytes} arrived")
        return found

    def traffic(self, order: Order, want: int, ages: int = 0, quiet: float = QUIET_SECONDS) -> Traffic:
        """Have it publish, and read until `want` bytes have come (-1: until no more come for `quiet` seconds)."""
        cpu = self.cpu()
        reading = self.load.start(Audience.drain, want, DRAIN_SECONDS, quiet if want < 0 else -1.0, ages)
        generated = self.server.generate(order, self.frame)
        drained = reading.result()
        return Traffic((drained.finished - generated.started) / 1e9, drained, self.cpu() - cpu, generated)

    def cpu(self) -> float:
        """Return the server's CPU time in seconds."""
        return cpu_seconds(self.server.pid)

    def settle(self) -> None:
        """Wait until the server is idle."""
        settle(self.server.pid)


@dataclass
class Bench:
    """One run. `missing` tells why a peer is left out; `step` is called after each measurement."""

    config: Config
    peers: tuple[Peer, ...]
    sizes: Sizes
    rounds: int
    results: Results = field(default_factory=Results)
    missing: dict[str, str] = field(default_factory=dict)
    step: Callable[[], object] = lambda: None

    @contextmanager
    def started(self, *, only_serving: bool = True, config: Config | None = None) -> Iterator[list[Contestant]]:
        """Start the peers, each with a load process; those that are no services only where asked for."""
        chosen = [peer for peer in self.peers if peer.serves or not only_serving]
        with ExitStack() as stack:
            yield self._start(stack, chosen, config or self.config)

    @contextmanager
    def alone(self, peer: Peer, config: Config | None = None) -> Iterator[Contestant | None]:
        """Start one peer, with a configuration of its own if one is given; None where it cannot run."""
        with ExitStack() as stack:
            yield next(iter(self._start(stack, [peer], config or self.config)), None)

    @contextmanager
    def teamspace(self) -> Iterator[Teamspace]:
        """Make a teamspace that no server has heard of, for the length of the block."""
        client: MongoClient[dict[str, Any]]
        with MongoClient(self.config.mongo_uri) as client:
            made = Teamspace(client, self.config.users_collection)
            yield made
            made.drop()

    def turns(self, contestants: list[Contestant]) -> Iterator[Contestant]:
        """Yield each contestant once a round; another begins each time, so that none always follows the same."""
        for number in range(self.rounds):
            first = number % max(1, len(contestants))
            for contestant in contestants[first:] + contestants[:first]:
                yield contestant
                self.step()

    def add(self, scenario: str, case: str, metric: str, peer: Peer, value: float) -> None:
        """Add one round of a metric."""
        self.results.add(Key(scenario, case, metric, peer.name), value)

    def _start(self, stack: ExitStack, peers: list[Peer], config: Config) -> list[Contestant]:
        """Start them all, then wait for each."""
        begun = []
        for peer in [peer for peer in peers if peer.name not in self.missing]:
            with self._or_missing(peer):
                begun.append((stack.enter_context(launched(peer, config)), stack.enter_context(LoadProcess())))
        found = []
        for starting, load in begun:
            with self._or_missing(starting.peer):
                server = starting.server()
                found.append(Contestant(starting.peer, server, load, server.script()))
        return found

    @contextmanager
    def _or_missing(self, peer: Peer) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            self.missing[peer.name] = str(error)
