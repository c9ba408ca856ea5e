"""Many clients in one process, which come back whenever they lose their connection: `crowd.py <Plan as JSON>`.

Prints `joined` when all are in their room and have heard an event. Its standard input names the number of an event: it
waits until all have heard that one or a later one, prints what each went through, a JSON list of `Client.report`, and
ends.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import logging
import os
import random
import ssl
import sys
from dataclasses import dataclass, field
from functools import cache
from time import monotonic
from typing import Any

import gevent
import requests
import socketio
from gevent.event import Event
from gevent.pool import Group

SECONDS = 30
# As README's clients do, but sooner: who comes back at once needs the jitter all the more.
RETRY_SECONDS = (0.05, 0.25)
# Of ten clients. Few poll: twenty requests a second of each are more work for this process than for the service.
WAYS = (*[("websocket",)] * 5, ("polling",), *[("polling", "websocket")] * 4)
# Every third client is a v4 one, in all of these ways.
LEGACY_EVERY = 3
LEGACY = "/legacy_v4"


@dataclass(frozen=True)
class Plan:
    """Who connects where; `legacy` is how a v4 client names the room, None where v4 is not served.

    `since`: whether they join since the position that they have.
    """

    url: str
    authority: str
    cookie: str
    clients: int
    room: dict[str, str]
    legacy: dict[str, str] | None
    since: bool = False


class _Clock:
    """Seconds, less those in which this process waited for a processor: each real client has one of its own."""

    def __init__(self) -> None:
        try:
            self._delays: int | None = os.open("/proc/self/schedstat", os.O_RDONLY)
        except FileNotFoundError:
            self._delays = None

    def __call__(self) -> float:
        waited = int(os.pread(self._delays, 128, 0).split()[1]) / 1e9 if self._delays is not None else 0.0
        return monotonic() - waited


@cache
def _trust(authority: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


class _Socket(socketio.Client):
    """The stock client, which sets `gone` at whatever moment the connection ends."""

    def __init__(self, plan: Plan, number: int, gone: Event) -> None:
        self._plan, self._gone = plan, gone
        # nginx tells clients apart by their addresses; here each says its own.
        self._address = {"X-Claimed-Address": f"198.51.100.{number + 1}"}
        http = requests.Session()
        http.trust_env = False
        http.verify = plan.authority
        # The stock client sends the headers that it is given with its handshake only.
        http.headers.update(self._address)
        stock: Any = super()
        options = {"sslopt": {"context": _trust(plan.authority)}}
        stock.__init__(reconnection=False, http_session=http, websocket_extra_options=options)

    def open(self, namespaces: list[str], transports: tuple[str, ...]) -> None:
        stock: Any = self
        stock.connect(
            self._plan.url,
            headers={"Cookie": self._plan.cookie, **self._address},
            namespaces=namespaces,
            transports=list(transports),
            socketio_path="chat",
            # It would wait on for the namespace of a connection that is lost.
            wait=False,
        )

    def let_go(self) -> None:
        """Close what the stock client leaves open where the server has closed."""
        websocket: Any = self.eio.ws
        if websocket is not None:
            websocket.shutdown()
        self.eio.http.close()

    def _handle_eio_disconnect(self, reason: Any) -> None:
        stock: Any = super()
        try:
            stock._handle_eio_disconnect(reason)
        finally:
            # The stock client keeps to itself what goes wrong here.
            self._gone.set()


@dataclass
class Client:
    """One client and what it went through, in seconds."""

    plan: Plan
    number: int
    clock: _Clock
    heard: list[Any] = field(default_factory=list)
    losses: int = 0
    gaps: int = 0
    absent: float = 0.0
    silent: float = 0.0
    _joined: bool = False
    _left_at: float = 0.0
    _heard_at: float = 0.0
    _position: str | None = None
    _told: bool = False

    @property
    def way(self) -> tuple[str, ...]:
        return WAYS[self.number % len(WAYS)]

    @property
    def is_legacy(self) -> bool:
        return self.plan.legacy is not None and self.number % LEGACY_EVERY == 0

    @property
    def is_listening(self) -> bool:
        return self._joined and bool(self.heard)

    def has_heard(self, number: int) -> bool:
        return self._joined and self.heard[-1] >= number

    def live(self) -> None:
        """Connect, join, and do so again whenever the connection is lost."""
        while True:
            gone = Event()
            socket: Any = _Socket(self.plan, self.number, gone)
            socket.on("connect", lambda: self._join(socket), namespace=self._namespace)  # noqa: B023 - of this round
            socket.on("*", self._heard_event, namespace=self._namespace)
            try:
                socket.open([self._namespace], self.way)
                gone.wait()
            except socketio.exceptions.ConnectionError:
                # Nobody answers; tried again like one that was lost.
                pass
            finally:
                socket.let_go()
            self._lost()
            gevent.sleep(random.uniform(*RETRY_SECONDS))

    def begin(self) -> None:
        """Measure from now on."""
        self.losses, self.absent, self.silent, self._heard_at = 0, 0.0, 0.0, self.clock()

    def report(self) -> dict[str, Any]:
        """What happened since `begin`; who is away says how long."""
        now = self.clock()
        return {
            "way": "+".join(self.way) + (", v4" if self.is_legacy else ""),
            "losses": self.losses,
            "absent": max(self.absent, 0.0 if self._joined else now - self._left_at),
            "silent": max(self.silent, now - self._heard_at),
            "heard": self.heard,
            "gaps": self.gaps,
        }

    @property
    def _namespace(self) -> str:
        return LEGACY if self.is_legacy else "/"

    def _join(self, socket: Any) -> None:
        room = self.plan.legacy if self.is_legacy else self.plan.room
        since = {"since": self._position} if self.plan.since else {}
        socket.emit("join", {**(room or {}), **since}, namespace=self._namespace, callback=self._answered)

    def _answered(self, reply: Any) -> None:
        if reply.get("event", "success") != "success":
            raise RuntimeError(reply)
        self.gaps += reply.get("gap", False)
        self._joined = True
        self.absent = max(self.absent, self.clock() - self._left_at) if self.losses else 0.0

    def _lost(self) -> None:
        if self._joined:
            self.losses += 1
            self._left_at = self.clock()
        self._joined = self._told = False

    def _heard_event(self, name: str, *arguments: Any) -> None:
        if name == "position" and self._told:
            # One that comes before the answer to the join says nothing of the room.
            self._position = arguments[0]
        data = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
        if name == "message":
            self.gaps += data.get("event") == "gap"
            # The acknowledgement follows behind what is replayed.
            self._told |= data.get("event") == "success"
        number = data.get("data", data).get("n")
        if number is None:
            return
        now = self.clock()
        self.silent, self._heard_at = max(self.silent, now - self._heard_at), now
        self.heard.append(number)


def main(plan: Plan) -> None:
    clock = _Clock()
    clients = [Client(plan, number, clock) for number in range(plan.clients)]
    group = Group()
    for client in clients:
        group.spawn(client.live)
    while not all(client.is_listening for client in clients):
        gevent.sleep(0.05)
    for client in clients:
        client.begin()
    print("joined", flush=True)
    number = int(gevent.get_hub().threadpool.apply(sys.stdin.readline))
    end = monotonic() + SECONDS
    while monotonic() < end and not all(client.has_heard(number) for client in clients):
        gevent.sleep(0.05)
    print(json.dumps([client.report() for client in clients]), flush=True)
    group.kill(block=False)


if __name__ == "__main__":
    logging.getLogger("engineio.client").setLevel(logging.CRITICAL)
    main(Plan(**json.loads(sys.argv[1])))
