"""The peers as processes: how each is started, driven and stopped, and what it needs to run here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol

import requests

from benchmarks.build import BuildError, compiled, node_modules
from benchmarks.load.audience import Script
from repo_notify.demo.seed import STRUCTURE, TEAMSPACE, TOWER
from tests.clients.install import find_node

ROOT = Path(__file__).resolve().parent.parent
SERVERS = ROOT / "benchmarks" / "servers"
HOST = "127.0.0.1"
CHAT_PATH = "/chat"
ROOM = {"teamspace": TEAMSPACE, "project": TOWER, "model": STRUCTURE}
READER = "carol"
STOP_SECONDS = 10.0
REQUEST_SECONDS = 120.0


Sessions = Literal["cookie", "mongodb"]


@dataclass(frozen=True)
class Config:
    """What every peer is told: the same for all. Times in seconds; no heartbeat falls into a measurement.

    With `recovery` the peers recover lost connections, else none does. With `backend_queue`, the address of a RabbitMQ,
    they hear of a 3D Repo backend by that exchange. For ours alone: where it listens (0: at a free port), and further
    `settings` of its.
    """

    mongo_uri: str
    users_collection: str = "users"
    secret: str = "the peers' own"
    api_key: str = "publish"
    cache_seconds: float = 3.0
    ping_seconds: int = 600
    sessions: Sessions = "cookie"
    recheck_seconds: float = 30.0
    room: Mapping[str, str] = field(default_factory=lambda: dict(ROOM))
    recovery: bool = False
    port: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    backend_queue: str = ""
    backend_exchange: str = "eventExchange"


@dataclass(frozen=True)
class Order:
    """What a peer is to publish: so many events, `burst` of them in one turn of its loop.

    `interval_ns` is the time from one event to the next (0: none), `fill` the bytes of text in each. `places` are the
    rooms that get an event in turn: each event is then a new ticket, whose `_id` is its number from 0. Without them
    each event is a change of the one model that all peers know.
    """

    events: int
    burst: int = 1
    interval_ns: int = 0
    fill: int = 16
    places: tuple[Mapping[str, str], ...] = ()


class Generated(NamedTuple):
    """When a peer began to publish, in ns of CLOCK_MONOTONIC, and its CPU time by its own count, in seconds.

    `user` is its own, `system` the kernel's; a peer that does not count says none.
    """

    started: int
    user: float = 0.0
    system: float = 0.0


class Server(Protocol):
    """A running peer."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def port(self) -> int:
        """Where it listens, on the loopback address."""

    def script(self) -> Script:
        """Return how a client gets into the room."""

    def generate(self, order: Order, frame: int) -> Generated:
        """Have it publish. A frame on the wire has `frame` bytes."""


@dataclass(frozen=True)
class WebServer:
    """A peer that is driven over HTTP."""

    process: subprocess.Popen[str]
    port: int

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def script(self) -> Script:
        """Return the script of a logged-in v5 frontend."""
        answer = self._post("login", {"username": READER})
        cookie = "; ".join(f"{found.name}={found.value}" for found in answer.cookies)
        join = "42" + json.dumps(["join", ROOM], separators=(",", ":"))
        return Script.joining(HOST, self.port, CHAT_PATH, cookie, join.encode())

    def ask(self, path: str) -> requests.Response:
        """Get a page of its."""
        answer = requests.get(f"http://{HOST}:{self.port}{path}", timeout=REQUEST_SECONDS)
        answer.raise_for_status()
        return answer

    def generate(self, order: Order, frame: int) -> Generated:  # noqa: ARG002 - its frames are as long as they are
        """Have it publish."""
        told = self._post("generate", asdict(order)).json()
        return Generated(int(told["started"]), told["user"], told["system"])

    def _post(self, what: str, body: dict[str, Any]) -> requests.Response:
        answer = requests.post(f"http://{HOST}:{self.port}/bench/{what}", json=body, timeout=REQUEST_SECONDS)
        answer.raise_for_status()
        return answer


@dataclass(frozen=True)
class SendLoop:
    """The C loop, driven over its standard input."""

    process: subprocess.Popen[str]
    port: int

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def script(self) -> Script:
        """Return the empty script: bare TCP."""
        return Script(HOST, self.port)

    def generate(self, order: Order, frame: int) -> Generated:
        """Have it send."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order.events} {order.burst} {frame}\n")
        self.process.stdin.flush()
        return Generated(int(self.process.stdout.readline().split()[0]))


@dataclass(frozen=True)
class Command:
    """How a peer is started."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class Unavailable(Exception):
    """A peer cannot run here; the text says what is missing."""


@dataclass(frozen=True)
class Peer:
    """One row of the table: its name, what it is, how it is started, and how it is driven.

    `command` raises `Unavailable`; only a peer that `serves` knows rooms and sessions. One `with_history` is another
    once more, wins no row, and sends the history's positions, which have no fixed number of bytes.
    """

    name: str
    title: str
    command: Callable[[Config], Command]
    drive: Callable[[subprocess.Popen[str], int], Server]
    serves: bool = True
    with_history: bool = False

    @property
    def competes(self) -> bool:
        """Whether it may win a row."""
        return self.serves and not self.with_history


def _python(module: str) -> Callable[[Config], Command]:
    return lambda config: Command((sys.executable, "-m", f"benchmarks.servers.{module}", json.dumps(asdict(config))))


def _ours_with_history(config: Config) -> Command:
    return _python("ours")(replace(config, recovery=True))


def _node(config: Config) -> Command:
    node = find_node()
    if node is None:
        raise Unavailable("there is no Node with npm")
    modules = node_modules(node, SERVERS / "node" / "package.json")
    script = str(SERVERS / "node" / "server.js")
    environment = {"NODE_PATH": str(modules), "NODE_ENV": "production"}
    return Command((node.executable, script, json.dumps(asdict(config))), environment)


def _node_eiows(config: Config) -> Command:
    command, node = _node(config), find_node()
    assert node is not None
    folder = SERVERS / "node" / "eiows"
    try:
        native = node_modules(node, folder / "package.json", folder / "crypto_tls.h", script="native")
    except BuildError as error:
        raise Unavailable(f"eiows could not be built: {str(error).splitlines()[-1][:300]}") from None
    path = os.pathsep.join((command.environment["NODE_PATH"], str(native)))
    return Command(command.words, {**command.environment, "NODE_PATH": path, "WS_ENGINE": "eiows"})


def _limit(_: Config) -> Command:
    program = compiled(SERVERS / "limit.c")
    if program is None:
        raise Unavailable("there is no gcc")
    return Command((str(program),))


HISTORY = "ours-history"
_OURS = "RepoNotify in a Flask app, `repo_notify.serving.serve`; with a history in recovery and behind a backend alone"
PEERS = {
    peer.name: peer
    for peer in (
        Peer("ours", _OURS, _python("ours"), WebServer),
        Peer(
            HISTORY,
            "the same with a history in memory, where the question is what that costs",
            _ours_with_history,
            WebServer,
            with_history=True,
        ),
        Peer("stock", "stock Flask-SocketIO with gevent-websocket", _python("stock"), WebServer),
        Peer("node", "Node, socket.io with express-session, and amqplib behind a backend", _node, WebServer),
        Peer(
            "node-eiows",
            "the same with the npm package `eiows` (without its TLS) as `wsEngine`",
            _node_eiows,
            WebServer,
        ),
        Peer("c", "a C loop of `send()` over bare TCP sockets: the physical limit", _limit, SendLoop, serves=False),
    )
}


@dataclass(frozen=True)
class Launched:
    """A peer that is on its way."""

    peer: Peer
    process: subprocess.Popen[str]
    complaints: IO[str]

    def server(self) -> Server:
        """Wait until it listens; raises `Unavailable` with its last words."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if "http://" not in line:
            self.complaints.seek(0)
            raise Unavailable(f"it did not start: {self.complaints.read().strip()[-300:]}")
        return self.peer.drive(self.process, int(line.rsplit(":", 1)[1]))


@contextmanager
def launched(peer: Peer, config: Config) -> Iterator[Launched]:
    """Run a peer for the length of the block; raises `Unavailable` where it cannot run."""
    command = peer.command(config)
    with (
        tempfile.TemporaryFile(mode="w+") as complaints,
        subprocess.Popen(
            command.words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            cwd=ROOT,
            env={**os.environ, **command.environment},
        ) as process,
    ):
        try:
            yield Launched(peer, process, complaints)
        finally:
            # Not asked to end in order: that would have it tell thousands of clients that are not listening any more.
            process.kill()
            process.wait(STOP_SECONDS)
