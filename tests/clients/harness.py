"""Real JavaScript Socket.IO clients, driven from Python: one Node process, any number of sockets in it.

    with JsClients(node, installed) as clients:
        carol = clients.connect("http://127.0.0.1:3000", headers={"Cookie": "connect.sid=..."})
        carol.emit("join", {"notifications": True})
        (reply,) = carol.wait_for("message")

Waiting awaits what the driver reports, and takes it: the next `wait_for` of that name gets the next one. That
something did NOT arrive is shown by a barrier: a `call` that the server acknowledges after whatever it had to send.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from tests.clients.install import Node

DRIVER = Path(__file__).with_name("driver.js")
PYTHON_DRIVER = Path(__file__).with_name("driver.py")
NEWEST = "4"
STOP_SECONDS = 5.0
# The event by which the server tells how far what it sent goes; no event that a test waits for.
POSITION = "position"

Json = Any
Args = list[Json]


class ClientError(AssertionError):
    """What a test expected of a client did not happen; the text holds what did."""


@dataclass(frozen=True)
class Event:
    """One event that the server sent to one socket."""

    name: str
    args: Args


@dataclass
class Report:
    """One line of the driver; `taken` once a wait has returned it."""

    line: Mapping[str, Json]
    taken: bool = False


@dataclass
class Log:
    """What the driver reported of one socket, oldest first."""

    reports: list[Report] = field(default_factory=list)

    def take(self, matches: Callable[[Mapping[str, Json]], bool]) -> Mapping[str, Json] | None:
        for report in self.reports:
            if not report.taken and matches(report.line):
                report.taken = True
                return report.line
        return None


def to_wire(value: Json) -> Json:
    """JSON for the driver: bytes become `{"__bytes__": base64}`."""
    if isinstance(value, bytes | bytearray):
        return {"__bytes__": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {key: to_wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_wire(item) for item in value]
    return value


def restore_bytes(pairs: list[tuple[str, Json]]) -> Json:
    """The inverse of `to_wire`, while JSON is read."""
    value = dict(pairs)
    return base64.b64decode(value["__bytes__"]) if set(value) == {"__bytes__"} else value


class Driver(Protocol):
    """What a socket asks of whatever runs its client."""

    def command(self, **command: Json) -> None:
        """Send one command of driver.js."""

    def next_ack(self) -> int:
        """A number that no acknowledgement has had."""

    def lines_of(self, name: str) -> list[Mapping[str, Json]]:
        """Everything reported of one socket, oldest first."""

    def take(
        self, name: str, what: str, matches: Callable[[Mapping[str, Json]], bool], timeout: float
    ) -> Mapping[str, Json]:
        """Wait for a report about the socket `name` that matches, and take it."""


class JsSocket:
    """One socket of one client; made by `Clients.connect`."""

    def __init__(self, clients: Driver, name: str) -> None:
        self.name = name
        self._clients = clients
        self._id: str | None = None
        #: Whether the client itself took the last awaited connect for a recovery; None where it knows nothing of it.
        self.recovered: bool | None = None

    @property
    def id(self) -> str:
        """`socket.id` as of the last awaited connect. Raises ClientError before the first one."""
        if self._id is None:
            raise ClientError(f"socket {self.name} has not been connected")
        return self._id

    @property
    def events(self) -> list[Event]:
        """Every event that has arrived so far but `position`, oldest first, whether awaited or not."""
        return [event for event in self._arrived if event.name != POSITION]

    @property
    def positions(self) -> list[str]:
        """What the `position` events that have arrived so far told, oldest first."""
        return [event.args[0] for event in self._arrived if event.name == POSITION]

    @property
    def _arrived(self) -> list[Event]:
        lines = self._clients.lines_of(self.name)
        return [Event(line["event"], line["args"]) for line in lines if line["kind"] == "event"]

    def emit(self, event: str, *args: Json) -> None:
        """Emit without asking for an acknowledgement."""
        self._clients.command(op="emit", id=self.name, event=event, args=args)

    def call(self, event: str, *args: Json, timeout: float = 5.0) -> Args:
        """Emit and wait `timeout` seconds for the acknowledgement; returns its arguments."""
        return self._acknowledged(timeout, op="emit", event=event, args=args)

    def wait_for(
        self, event: str, predicate: Callable[..., bool] | None = None, timeout: float = 5.0
    ) -> Args:
        """Take the first event of that name not taken yet, whose arguments satisfy the predicate.

        Returns its arguments. Raises ClientError after `timeout` seconds, or as soon as the client process is gone.
        """

        def matches(line: Mapping[str, Json]) -> bool:
            return line["event"] == event and (predicate is None or predicate(*line["args"]))

        args: Args = self._take("event", timeout, matches, what=f"event {event!r}")["args"]
        return args

    def wait_connected(self, timeout: float = 10.0) -> str:
        """Wait for the next connect (each reconnect is one); returns `socket.id`."""
        line = self._take("connect", timeout)
        self._id, self.recovered = str(line["socketId"]), line.get("recovered")
        return self._id

    def wait_upgraded(self, timeout: float = 10.0) -> str:
        """Wait for the next change of transport; returns the new one's name."""
        return str(self._take("upgrade", timeout)["transport"])

    def wait_disconnected(self, timeout: float = 10.0) -> str:
        """Wait for the next disconnect; returns the client's reason."""
        return str(self._take("disconnect", timeout)["reason"])

    def wait_refused(self, timeout: float = 10.0) -> Json:
        """Wait for a failed connection or a refused namespace; returns the message."""
        return self._take("connect_error", timeout)["message"]

    def transport(self, timeout: float = 5.0) -> str | None:
        """Name of the transport in use: `websocket`, `polling`, or None when there is none."""
        (name,) = self._acknowledged(timeout, op="transport")
        return None if name is None else str(name)

    def disconnect(self) -> None:
        """Say goodbye and close."""
        self._clients.command(op="disconnect", id=self.name)

    def open(self) -> None:
        """Connect again after a disconnect."""
        self._clients.command(op="open", id=self.name)

    def drop(self) -> None:
        """Cut the transport without a goodbye, as a lost network does."""
        self._clients.command(op="drop", id=self.name)

    def close_transport(self) -> None:
        """Close the Engine.IO connection, without leaving the namespace, as a client does on an error of its own."""
        self._clients.command(op="close", id=self.name)

    def throw_at(self, event: str) -> None:
        """Have a listener of that event throw, each time."""
        self._clients.command(op="throw", id=self.name, event=event)

    def wait_thrown(self, timeout: float = 5.0) -> str:
        """Wait until such a listener has thrown; returns the event's name."""
        return str(self._take("thrown", timeout)["event"])

    def _acknowledged(self, timeout: float, **command: Json) -> Args:
        ack = self._clients.next_ack()
        self._clients.command(id=self.name, ack=ack, **command)
        args: Args = self._take("ack", timeout, lambda line: line["ack"] == ack, what="acknowledgement")["args"]
        return args

    def _take(
        self,
        kind: str,
        timeout: float,
        matches: Callable[[Mapping[str, Json]], bool] = lambda line: True,
        *,
        what: str | None = None,
    ) -> Mapping[str, Json]:
        return self._clients.take(self.name, what or kind, lambda line: line["kind"] == kind and matches(line), timeout)


AnyClients = TypeVar("AnyClients", bound="Clients")


class Clients:
    """A process running a driver; a context manager. What the driver is told and tells, driver.js says."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._logs: dict[str, Log] = {}
        self._refusals: list[str] = []
        self._ended = False
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=env,
            text=True,
            encoding="utf-8",
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, name="js-clients", daemon=True)
        self._reader.start()

    def __enter__(self: AnyClients) -> AnyClients:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def connect(
        self,
        url: str,
        *,
        client: str = NEWEST,
        path: str = "/chat",
        transports: Sequence[str] = ("websocket",),
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        reconnection: bool = False,
        options: Mapping[str, Json] | None = None,
        wait: bool = True,
    ) -> JsSocket:
        """Open a socket with the version `client` (an alias `sio-<client>` of package.json).

        `options` go to the client as they are. With `wait`, returns once it is connected; raises ClientError if it
        is not within 10 s.
        """
        name = f"{client}#{next(self._numbers)}"
        opts: dict[str, Json] = {"path": path, "transports": list(transports), "reconnection": reconnection}
        opts |= {"extraHeaders": dict(headers)} if headers else {}
        opts |= {"query": dict(query)} if query else {}
        opts |= options or {}
        socket = JsSocket(self, name)
        self.command(op="connect", id=name, client=client, url=url, opts=opts)
        if wait:
            socket.wait_connected()
        return socket

    def stop(self) -> None:
        """End the process and with it every socket; does nothing the second time."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()
        self._stderr.close()

    def command(self, **command: Json) -> None:
        """Send one command of driver.js. Raises ClientError when the process is gone."""
        stdin = self._process.stdin
        try:
            if stdin is None or stdin.closed:
                raise BrokenPipeError
            stdin.write(json.dumps(to_wire(command)) + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise ClientError(f"the client process is gone: {self._last_words()}") from None

    def next_ack(self) -> int:
        """A number that no acknowledgement of this process has had."""
        return next(self._numbers)

    def lines_of(self, name: str) -> list[Mapping[str, Json]]:
        """Everything the driver reported of one socket, oldest first."""
        with self._changed:
            return [report.line for report in self._log(name).reports]

    def take(
        self, name: str, what: str, matches: Callable[[Mapping[str, Json]], bool], timeout: float
    ) -> Mapping[str, Json]:
        """Wait for a report about the socket `name` that matches, and take it. Raises ClientError after `timeout` s."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                if (line := self._log(name).take(matches)) is not None:
                    return line
                if self._refusals:
                    raise ClientError(f"the driver refused: {'; '.join(self._refusals)}")
                if self._ended:
                    raise ClientError(f"no {what} at {name}, the client process is gone: {self._last_words()}")
                if not self._changed.wait(deadline - time.monotonic()):
                    lines = [dict(report.line) for report in self._log(name).reports]
                    raise ClientError(f"no {what} at {name} within {timeout} s; it got {lines}")

    def _log(self, name: str) -> Log:
        return self._logs.setdefault(name, Log())

    def _read(self) -> None:
        for text in self._process.stdout or ():
            line = json.loads(text, object_pairs_hook=restore_bytes)
            with self._changed:
                if line["kind"] == "refused":
                    self._refusals.append(line["message"])
                else:
                    self._log(line["id"]).reports.append(Report(line))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _last_words(self) -> str:
        if self._stderr.closed:
            return "it was stopped"
        self._stderr.seek(0)
        return self._stderr.read().strip() or "it said nothing"


class JsClients(Clients):
    """A Node process running driver.js. `installed` is what `install_clients` returned."""

    def __init__(self, node: Node, installed: Path) -> None:
        super().__init__([node.executable, str(DRIVER), str(installed)], node.environment())


class PythonClients(Clients):
    """A Python process running driver.py, with the packages of that folder before this environment's."""

    def __init__(self, packages: str | None = None) -> None:
        env = {**os.environ, "PYTHONPATH": packages} if packages else os.environ
        super().__init__([sys.executable, str(PYTHON_DRIVER)], env)
