"""Restarts: what clients miss and hear twice when the service is killed or restarted, and how soon they are back."""

from __future__ import annotations

import math
import re
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, monotonic_ns, sleep
from typing import cast

from benchmarks.bench import Bench
from benchmarks.figures import COMPLETENESS, COUNT, SECONDS, Key
from benchmarks.load.audience import LoadError
from benchmarks.load.frames import event_frame
from benchmarks.load.process import LoadProcess
from benchmarks.load.publisher import Publisher
from benchmarks.load.returning import END, Plan, Stay, stay
from benchmarks.peers import HOST, READER, STOP_SECONDS, Config, Peer, Unavailable, WebServer, launched
from benchmarks.process import settle
from benchmarks.scenarios.scenario import Scenario
from benchmarks.sizes import Sizes
from tests.support import brokers
from tests.support.documented import documented_nginx
from tests.support.nginx import nginx
from tests.support.ports import free_port

NAME = "restarts"
LOST, REPEATS, BACK = "lost events", "repeated events", "all back after"
UP = "listening again after"
RECOVERED, LONGEST = "connections recovered", "longest absence"
MONGODB, REDIS = "killed, history in MongoDB", "killed, history in Redis"
ONE_OF_TWO, ROLLING = "one of two killed", "two restarted in turn"
PER_SECOND = 20
ROOM_SIZE = 500
# The whole of a case, which takes half a minute on a machine of its own, and how long clients have to come in or back.
LIMIT_SECONDS, RETURN_SECONDS = 120.0, 15.0
LOOK_SECONDS = 0.2
# Ends a thousand connections within the quarter of its time to end that a process takes for that.
DRAIN_RATE = 400
CONNECTIONS = re.compile(r"^repo_notify_connections\{.*\} (\S+)$", re.MULTILINE)
PROGRAMS = {"redis-server": ("redis-server",), "nginx": ("nginx", "/usr/sbin/nginx")}


@dataclass(frozen=True)
class _Case:
    """One row: how many clients, what it needs, how many processes serve, and which are ended in turn, and how."""

    what: str
    clients: Callable[[Sizes], int]
    needs: tuple[str, ...] = ()
    processes: int = 1
    ends: tuple[int, ...] = (0,)
    by: signal.Signals = signal.SIGKILL


CASES = (
    _Case(MONGODB, lambda sizes: sizes.killed),
    _Case(REDIS, lambda sizes: sizes.killed, ("redis-server",)),
    _Case(ONE_OF_TWO, lambda sizes: sizes.killed, ("redis-server", "nginx"), 2),
    _Case(ROLLING, lambda sizes: sizes.rolled, ("redis-server", "nginx"), 2, (0, 1), signal.SIGTERM),
)


def case(clients: int, what: str) -> str:
    """Return how so many clients are called, and what happens to them."""
    return f"{clients:,} clients, {what}"


def run(bench: Bench) -> None:
    """Measure each case once, on fresh processes with a history of its own."""
    for peer in bench.peers:
        for row in CASES:
            where = Key(NAME, case(row.clients(bench.sizes), row.what), LOST, peer.name)
            bench.results.remarks[where] = _measure_or_say_why(bench, peer, row)
            bench.step()


@dataclass
class _Process:
    """A process of ours that ends and begins again on the same port."""

    peer: Peer
    config: Config
    ended: int = 0
    began: int = 0
    _running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        started = self._running.enter_context(launched(self.peer, self.config))
        self.server = cast("WebServer", started.server())
        self.began = monotonic_ns()

    def end(self, by: signal.Signals) -> None:
        """End it with a signal."""
        self.ended = monotonic_ns()
        self.server.process.send_signal(by)
        self.server.process.wait(2 * STOP_SECONDS)
        self._running.close()

    def close(self) -> None:
        """End it if it runs."""
        self._running.close()


@dataclass(frozen=True)
class _Site:
    """The processes, and the port at which clients find them."""

    processes: Sequence[_Process]
    port: int

    def await_clients(self, number: int) -> bool:
        """Wait until so many are connected; return whether they are."""
        limit = monotonic() + RETURN_SECONDS
        while self._connections() < number:
            if monotonic() > limit:
                return False
            sleep(LOOK_SECONDS)
        return True

    def _connections(self) -> float:
        pages = [process.server.ask("/notify/metrics").text for process in self.processes]
        return sum(float(count) for page in pages for count in CONNECTIONS.findall(page))


def _start(stack: ExitStack, bench: Bench, peer: Peer, row: _Case) -> _Site:
    """Start what a case needs."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
    behind = "nginx" in row.needs
    settings = {
        "REPO_NOTIFY_HISTORY": stack.enter_context(brokers.redis(folder)) if row.needs else "mongodb",
        "REPO_NOTIFY_TRUSTED_PROXIES": int(behind),
        "REPO_NOTIFY_DRAIN_RATE": DRAIN_RATE,
    }
    config = replace(bench.config, recovery=True, settings=settings)
    processes = [_Process(peer, replace(config, port=free_port())) for _ in range(row.processes)]
    for process in processes:
        stack.callback(process.close)
        process.start()
    ports = [process.config.port for process in processes]
    if not behind:
        return _Site(processes, ports[0])
    port = free_port()
    http = documented_nginx(folder, None, port, ports)
    connections = 3 * row.clients(bench.sizes) + 100
    return _Site(processes, stack.enter_context(nginx(folder, http, f"http://{HOST}:{port}", connections)).port)


def _measure_or_say_why(bench: Bench, peer: Peer, row: _Case) -> str:
    """Measure a case; return the remark on it, which says so where there are no figures."""
    missing = [name for name in row.needs if brokers.find_binary(*PROGRAMS[name]) is None]
    if missing:
        return f"left out, as there is no {' and no '.join(missing)}"
    try:
        return _measure(bench, peer, row)
    except (LoadError, Unavailable) as error:
        return f"not measured: {error}"


def _measure(bench: Bench, peer: Peer, row: _Case) -> str:
    """Add the figures of a case; return the remark on it."""
    clients = row.clients(bench.sizes)
    with bench.teamspace() as teamspace, ExitStack() as stack:
        models = [teamspace.model({READER: "viewer"}) for _ in range(max(1, clients // ROOM_SIZE))]
        project = teamspace.project(models)
        rooms = [{"teamspace": teamspace.name, "project": project, "model": model} for model in models]
        site = _start(stack, bench, peer, row)
        handshake = site.processes[0].server.script().steps[0][0]
        joins = [event_frame("join", room) for room in rooms]
        plan = Plan(HOST, site.port, handshake, joins, clients, LIMIT_SECONDS)
        ports = [process.config.port for process in site.processes]
        publisher = Publisher(HOST, ports, bench.config.api_key, rooms, PER_SECOND, LIMIT_SECONDS)
        load = stack.enter_context(LoadProcess())
        staying = load.begin(stay, plan)
        if not site.await_clients(clients):
            raise LoadError(f"ours: {clients} clients are not in after {RETURN_SECONDS:g} s")
        for process in site.processes:
            settle(process.server.pid)
        with publisher:
            sleep(bench.sizes.restart_calm)
            for number in row.ends:
                site.processes[number].end(row.by)
                site.processes[number].start()
            # Whether they are is for their own process to say.
            site.await_clients(clients)
            sleep(bench.sizes.restart_calm)
        found = staying.result()
    where = case(clients, row.what)
    for metric, value in _figures(found, publisher, clients, site.processes[row.ends[-1]]).items():
        bench.add(NAME, where, metric, peer, value)
    return _in_words(found, publisher)


def _figures(found: Stay, publisher: Publisher, clients: int, last: _Process) -> dict[str, float]:
    """Return the metrics of what clients heard; `last` is the process that was ended last."""
    rooms = len(publisher.places)
    numbers = publisher.accepted - {END}
    members = {number: len(range(number % rooms, clients, rooms)) for number in numbers}
    return {
        LOST: sum(members[number] - found.heard[number] for number in numbers),
        # Of an event that was published twice, both may come.
        REPEATS: sum(found.again[number] for number in numbers if publisher.posted[number] == 1),
        BACK: math.inf if found.away else (found.back - last.ended) / 1e9,
        UP: (last.began - last.ended) / 1e9,
        RECOVERED: found.recovered / max(1, found.reconnections),
        LONGEST: found.longest,
    }


def _in_words(found: Stay, publisher: Publisher) -> str:
    twice = [number for number, times in publisher.posted.items() if times > 1]
    gaps = "".join(f"; {times:,} were told: {reason}" for reason, times in found.gaps.items())
    return (
        f"{len(publisher.accepted - {END}):,} events accepted, {len(twice):,} of them published more than once, which "
        f"came again {sum(found.again[number] for number in twice):,} times; {found.lost:,} connections lost, "
        f"{found.recovered:,} of {found.reconnections:,} recovered, {found.refused:,} attempts refused; "
        f"{found.away:,} clients away at the end{gaps}"
    )


SCENARIO = Scenario(
    name=NAME,
    title="Restarts",
    how="Ours alone: what Node keeps is gone with its process. Clients in rooms of 500 (the full run) come back as "
    "socket.io-client 4.6 does, over WebSocket, with its back-off: 1 s, doubled at each attempt up to 5 s, 50 % more "
    "or less. 20 events a second go by turns to the rooms, over `POST /notify/events`; one that is not answered 202 is "
    "published again, and what is overdue at once. Meanwhile the service is killed with SIGKILL and started again on "
    "the same port at once: as one process with its history in MongoDB, the same in Redis, and as one of two that "
    "share a history in Redis behind the nginx of the documentation (without TLS, as the clients have none; each has "
    f"an address of its own). Then both of the two are restarted in turn, by SIGTERM, at {DRAIN_RATE} connections a "
    "second. Lost are the events that were accepted and not heard, times the clients of their rooms that missed them; "
    "repeats came again although they were published once. The times are those from the last signal to the moment "
    "when the last client was in its room again, and when the process that was ended last listened again. Each "
    "measured once.",
    metrics={LOST: COUNT, REPEATS: COUNT, BACK: SECONDS, UP: SECONDS, RECOVERED: COMPLETENESS, LONGEST: SECONDS},
    plotted=(BACK,),
    steps=lambda _: len(CASES),
    run=run,
    only=("ours",),
    most_rounds=1,
)
