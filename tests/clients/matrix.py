"""The clients that must work, and the story that each lives through, step by step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import bson
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.clients.harness import JsSocket
from tests.clients.install import OLD_PYTHON_CLIENT, PACKAGE_JSON
from tests.support.served import SECONDS, Served, User
from tests.support.tcp_proxy import TcpProxy

PACKAGES: dict[str, str] = json.loads(PACKAGE_JSON.read_text("utf-8"))["dependencies"]
OLD_PYTHON, NEW_PYTHON = "python-4", "python-5"
ALIASES = ("1.4.0", "1.7.4", "2.0.4", "2.5.0", "3.1.3", "4.0", "4.5", "4.6", "4", OLD_PYTHON, NEW_PYTHON)
WAYS: dict[str, tuple[str, ...]] = {"websocket": ("websocket",), "polling, upgraded": ("polling", "websocket")}
ENGINE_IO_3 = ("1.4.0", "1.7.4", "2.0.4", "2.5.0", OLD_PYTHON)
# What these do by themselves when they come back, the others do by `since`.
RECOVERS = ("4.6", "4")
RECONNECT = {"reconnectionDelay": 50, "reconnectionDelayMax": 200}
STEPS = {
    "connect": "connects without a cookie, and is told that it is not logged in",
    "bind": "is bound by `x-socket-id`, with the id that the client itself knows",
    "namespace": "the same in the namespace `/legacy_v4`",
    "cookie": "connects with the session cookie",
    "join": "joins every kind of room, v5 and v4",
    "events": "receives every event, once and in order",
    "emitter": "does not receive what it caused itself",
    "refuse": "is refused a room, and a namespace",
    "leave": "leaves, and hears no more",
    "recover": "loses its connection, comes back by itself as who it was, and receives what it missed without joining"
    " anything again",
    "since": "comes back, joins again with `since` the last `position`, and receives what it missed",
    "logout": "hears `loggedOut`, and no more",
    "restart": "comes back by itself after a restart of the server, and joins again",
}

MODEL = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
V4_MODEL = {"account": "acme", "model": STRUCTURE}
ROOMS: list[dict[str, Any]] = [
    {"notifications": True},
    {"teamspace": "acme", "project": TOWER},
    MODEL,
    {"account": "alice"},
    {"account": "acme"},
    V4_MODEL,
]
_V4 = f"acme::{STRUCTURE}::"
_ISSUE = {"teamspace": "acme", "model": STRUCTURE, "issue": "i", "data": {"guid": "c"}}
_KIND = {**MODEL, "kind": "container"}
_COMMENT = {"_id": "c", "ticket": "t"}
_ENTITY = {"teamspace": "acme", "model": STRUCTURE, "data": {"_id": "e", "name": "Zürich 🏗"}}

# What is published, and which events a client in all rooms hears of it where both sets of v4 names are on.
CHANGES: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "ModelCreated",
        {"teamspace": "acme", "project": TOWER, "kind": "container", "data": {"_id": "m"}},
        ["newContainer", "acme::newModel", "acme::modelCreated"],
    ),
    (
        "ModelSettingsUpdated",
        {**_KIND, "data": {"status": "ok"}},
        ["containerSettingsUpdate", f"{_V4}modelStatusChanged"],
    ),
    ("RevisionCreated", {**_KIND, "data": {"_id": "r"}}, ["containerNewRevision", f"{_V4}modelStatusChanged"]),
    ("RevisionUpdated", {**_KIND, "data": {"_id": "r"}}, ["containerRevisionUpdate"]),
    ("TicketCreated", {**_KIND, "data": {"_id": "t"}}, ["containerNewTicket"]),
    ("TicketUpdated", {**_KIND, "data": {"_id": "t"}}, ["containerUpdateTicket"]),
    ("TicketCommentCreated", {**_KIND, "data": _COMMENT}, ["containerNewTicketComment"]),
    ("TicketCommentUpdated", {**_KIND, "data": _COMMENT}, ["containerUpdateTicketComment"]),
    ("TicketGroupUpdated", {**_KIND, "data": _COMMENT}, ["containerUpdateTicketGroup"]),
    ("ModelRemoved", _KIND, ["containerRemoved"]),
    (
        "IssuesCreated",
        {"teamspace": "acme", "model": STRUCTURE, "issues": [{"name": "Zürich 🏗"}]},
        [f"{_V4}newIssues", f"{_V4}issueCreated"],
    ),
    *(
        (event, _ISSUE, [f"{_V4}{where}{name}" for name in names for where in ("i::", "")])
        for event, names in (
            ("IssueUpdated", ("issueChanged", "issueUpdated")),
            ("CommentCreated", ("newComment", "commentCreated")),
            ("CommentUpdated", ("commentChanged", "commentUpdated")),
            ("CommentDeleted", ("commentDeleted",)),
        )
    ),
    *(
        (f"{entity}{what}", _ENTITY, [f"{_V4}{entity.lower()}{what}"])
        for entity in ("Risk", "Group", "View", "Resource")
        for what in ("Created", "Updated", "Deleted")
    ),
    ("NotificationUpserted", {"username": "alice", "data": {"_id": "n"}}, ["alice::notificationUpserted"]),
    ("NotificationDeleted", {"username": "alice", "data": {"_id": "n"}}, ["alice::notificationDeleted"]),
]
# Those that one room is told of, so that what is missed there has one order.
MISSED = [(change, fields, names) for change, fields, names in CHANGES if all(name.startswith(_V4) for name in names)]


def steps_of(alias: str) -> list[str]:
    """The steps that a client can do."""
    return [step for step in STEPS if step != "recover" or alias in RECOVERS]


def title(alias: str) -> str:
    """The client's package and version."""
    if alias == OLD_PYTHON:
        return OLD_PYTHON_CLIENT.replace("[client]==", " ")
    if alias == NEW_PYTHON:
        return "python-socketio 5.x"
    return PACKAGES[f"sio-{alias}"].removeprefix("npm:").replace("@", " ")


class Connects(Protocol):
    """What opens sockets for a story: `Clients`, or a page in a browser."""

    def connect(
        self,
        url: str,
        *,
        client: str,
        transports: Sequence[str],
        headers: Mapping[str, str] | None,
        reconnection: bool,
        options: Mapping[str, Any],
        wait: bool,
    ) -> JsSocket:
        """Open a socket."""


@dataclass
class Story:
    """One client on one transport, and the steps that it has done."""

    clients: Connects
    alias: str
    transports: tuple[str, ...]
    server: Served
    done: list[str]
    # How many events of the socket that loses its connection have been looked at.
    _seen: int = 0

    def live(self) -> None:
        """Do every step but the restart; raises where one fails."""
        user = User(self.server)
        self._without_cookie(user)
        alice = User(self.server).log_in("alice")
        socket = self.connect(alice)
        self._did("cookie")
        self._join(socket)
        self._hear(socket, user, alice)
        self._refuse(socket)
        self._leave(socket, user)
        self._lose(user, alice)
        self._log_out(socket, alice, user)
        socket.disconnect()

    def _did(self, step: str) -> None:
        self.done.append(step)

    def connect(self, user: User | None = None, namespace: str = "", *, reconnection: bool = False) -> JsSocket:
        """A connected socket, upgraded where that is the way."""
        socket = self._open(namespace, user, reconnection)
        socket.wait_connected()
        if len(self.transports) > 1:
            assert socket.wait_upgraded() == "websocket"
        assert socket.transport() == "websocket"
        return socket

    def _open(
        self, namespace: str, user: User | None = None, reconnection: bool = False, url: str | None = None
    ) -> JsSocket:
        return self.clients.connect(
            (url or self.server.url) + namespace,
            client=self.alias,
            transports=self.transports,
            headers={"Cookie": user.cookie} if user is not None else None,
            reconnection=reconnection,
            options=RECONNECT,
            wait=False,
        )

    def _without_cookie(self, user: User) -> None:
        socket = self.connect()
        (reply,) = socket.call("join", V4_MODEL)
        assert reply["code"] == "UNAUTHORISED"
        self._did("connect")
        user.log_in("bob", socket_id=socket.id)
        join(socket, V4_MODEL)
        self._did("bind")
        other = self.connect(namespace="/legacy_v4")
        user.post("/login", {"username": "bob"}, other.id).raise_for_status()
        join(other, V4_MODEL)
        self._did("namespace")
        for found in (socket, other):
            found.disconnect()

    def _join(self, socket: JsSocket) -> None:
        for room in ROOMS:
            join(socket, room)
        joined = [event.args[0] for event in socket.events if event.name == "joined"]
        assert joined == [room for room in ROOMS if "account" in room]
        self._did("join")

    def _hear(self, socket: JsSocket, user: User, own: User) -> None:
        before = len(socket.events)
        for change, fields, _ in CHANGES:
            user.publish(change, **fields)
        barrier(socket)
        heard = [event.name for event in socket.events[before:]]
        expected = [name for *_, names in CHANGES for name in names]
        assert heard == [*expected, "message"]
        (issue,) = (event.args[0] for event in socket.events if event.name == f"{_V4}newIssues")
        assert issue == [{"name": "Zürich 🏗"}]
        self._did("events")
        before = len(socket.events)
        for change, fields, _ in CHANGES:
            own.publish(change, socket_id=socket.id, **fields)
        barrier(socket)
        assert [event.name for event in socket.events[before:]] == ["message"]
        self._did("emitter")

    def _refuse(self, socket: JsSocket) -> None:
        (reply,) = socket.call("join", {"account": "acme", "model": "none such"})
        assert reply["code"] == "ROOM_NOT_FOUND"
        socket.wait_for("error", lambda said: said["code"] == "ROOM_NOT_FOUND")
        socket.wait_for("credentialError", lambda said: said["message"] == "Model not found")
        assert self._open("/nowhere").wait_refused() == "Invalid namespace"
        self._did("refuse")

    def _leave(self, socket: JsSocket, user: User) -> None:
        for room in ROOMS:
            (reply,) = socket.call("leave", room)
            assert reply["event"] == "success"
        self._hears_nothing(socket, user)
        self._did("leave")

    def _lose(self, user: User, own: User) -> None:
        with network(self.server.port) as (link, url):
            socket = self._open("", own, reconnection=True, url=url)
            first = socket.wait_connected()
            if len(self.transports) > 1:
                socket.wait_upgraded()
            (reply,) = socket.call("join", {**V4_MODEL, "since": None})
            assert isinstance(reply["position"], str)
            position = self._miss(socket, user, link)
            if self.alias in RECOVERS:
                assert (socket.recovered, socket.id) == (True, first)
                self._heard_missed(socket, set())
                self._did("recover")
                # Who says goodbye is not recovered.
                position = socket.positions[-1]
                socket.disconnect()
                self._publish_missed(user)
                socket.open()
                socket.wait_connected()
            assert not socket.recovered
            asked = {**V4_MODEL, "since": position}
            (reply,) = socket.call("join", asked)
            assert reply["data"] == {"action": "join", "data": asked}
            replayed = sum(len(names) for *_, names in MISSED)
            assert (reply["position"], reply["replayed"]) == (asked["since"], replayed)
            self._heard_missed(socket, {"joined", "message"})
            self._did("since")
            socket.disconnect()

    def _miss(self, socket: JsSocket, user: User, link: TcpProxy) -> str:
        """Lose the connection, and let it come back when it has missed something; returns the last position before.

        A session that begins is told its own position, which is behind what was missed.
        """
        self._publish_missed(user)
        barrier(socket)
        self._seen = len(socket.events)
        with link.refusing():
            socket.wait_disconnected()
            position = socket.positions[-1]
            self._publish_missed(user)
        socket.wait_connected()
        return position

    def _publish_missed(self, user: User) -> None:
        for change, fields, _ in MISSED:
            user.publish(change, **fields)

    def _heard_missed(self, socket: JsSocket, replies: set[str]) -> None:
        """All of it once and in order, behind these replies."""
        barrier(socket)
        heard = [event.name for event in socket.events[self._seen :]]
        self._seen += len(heard)
        expected = [name for *_, names in MISSED for name in names]
        assert set(heard[: len(replies)]) == replies
        assert heard[len(replies) :] == [*expected, "message"]

    def _log_out(self, socket: JsSocket, alice: User, user: User) -> None:
        for room in ROOMS:
            join(socket, room)
        alice.post("/logout").raise_for_status()
        (said,) = socket.wait_for("loggedOut")
        assert said == {"reason": "You have been logged out"}
        self._hears_nothing(socket, user)
        self._did("logout")

    def _hears_nothing(self, socket: JsSocket, user: User) -> None:
        before = len(socket.events)
        for change, fields, _ in CHANGES:
            user.publish(change, **fields)
        socket.call("leave", {})
        assert {event.name for event in socket.events[before:]} <= {"error", "credentialError"}

    def come_back(self, socket: JsSocket) -> None:
        """After a restart: the socket connects again by itself, and joins."""
        socket.wait_connected()
        join(socket, V4_MODEL)
        self._did("restart")


@contextmanager
def network(port: int) -> Iterator[tuple[TcpProxy, str]]:
    """A network between clients and the server on that port, which can be lost, and the server's address in it."""
    with TcpProxy(port) as link:
        yield link, f"http://127.0.0.1:{link.port}"


def join(socket: JsSocket, room: dict[str, Any]) -> None:
    """Join and fail unless it succeeds."""
    (reply,) = socket.call("join", room)
    assert reply == {"event": "success", "data": {"action": "join", "data": room}}


def publish_bson(server: Served, event: str, fields: dict[str, Any]) -> None:
    """Publish what JSON cannot hold, binary values among it."""
    body = bson.encode({"type": event, **fields})
    requests.post(server.url + "/publish-bson", body, timeout=SECONDS).raise_for_status()


def barrier(socket: JsSocket) -> None:
    """Return when everything that was sent before has arrived; the client hears `message` once more."""
    join(socket, ROOMS[0])


def table(outcomes: dict[tuple[str, str], list[str]]) -> str:
    """The outcomes as a table, a row for each client and transport."""
    lines = [
        "| client | Engine.IO | transport | " + " | ".join(STEPS) + " |",
        "|---|---|---|" + "---|" * len(STEPS),
    ]
    for alias in ALIASES:
        generation = 3 if alias in ENGINE_IO_3 else 4
        for way in WAYS:
            possible = steps_of(alias)
            cells = ["–" if step not in possible else "✓" if step in outcomes[alias, way] else "✗" for step in STEPS]
            lines.append(f"| {title(alias)} | {generation} | {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def document(outcomes: dict[tuple[str, str], list[str]]) -> str:
    """The whole page of the documentation."""
    return (Path(__file__).with_name("tested-clients.md.in").read_text("utf-8")).format(
        steps="".join(f"- *{step}*: {says}.\n" for step, says in STEPS.items()), table=table(outcomes)
    )
