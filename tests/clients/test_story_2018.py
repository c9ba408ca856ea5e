"""The notification story of 2018 against `repo-notify demo`, with the clients that frontends of that time ship."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

pytest.importorskip("legacy_v4")

from repo_notify.demo.seed import STRUCTURE
from tests.clients.harness import JsClients, JsSocket
from tests.console.server import Demo
from tests.support.served import SECONDS

pytestmark = pytest.mark.clients

ROOM = {"account": "acme", "model": STRUCTURE}
MODEL = f"acme::{STRUCTURE}::"


class Person:
    """A user of the demo's v4 REST API."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url.rstrip("/")
        self._http = requests.Session()
        self.ask("POST", "/login", username=name, password="demo")

    @property
    def cookie(self) -> str:
        return f"connect.sid={self._http.cookies['connect.sid']}"

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = self._http.request(method, self._url + path, json=body, timeout=SECONDS)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = Demo(tmp_path_factory.mktemp("demo"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


def hear(socket: JsSocket, issue: str, name: str) -> Any:
    """An event of one issue, which comes under both of its names."""
    (of_issue,) = socket.wait_for(f"{MODEL}{issue}::{name}")
    assert socket.wait_for(f"{MODEL}{name}") == [of_issue]
    return of_issue


@pytest.mark.parametrize("transports", [("websocket",), ("polling", "websocket")], ids="-".join)
@pytest.mark.parametrize("client", ["1.4.0", "2.0.4"])
def test_carol_sees_what_alice_does(
    demo: Demo, js_clients: JsClients, client: str, transports: tuple[str, ...]
) -> None:
    carol, alice = Person(demo.url, "carol"), Person(demo.url, "alice")
    # As a browser of that time whose client cannot set headers.
    cookie = carol.cookie.partition("=")
    socket = js_clients.connect(demo.url, client=client, transports=transports, query={cookie[0]: cookie[2]})
    socket.emit("join", ROOM)
    assert socket.wait_for("joined") == [ROOM]

    issues = f"/acme/{STRUCTURE}/issues"
    issue = alice.ask("POST", f"{issues}.json", name="Crack in the wall", priority="low")
    _id = issue["_id"]
    assert socket.wait_for(f"{MODEL}newIssues") == [[issue]]

    alice.ask("PUT", f"{issues}/{_id}.json", comment="Who made it?")
    comment = hear(socket, _id, "newComment")
    assert (comment["comment"], comment["issueId"]) == ("Who made it?", _id)

    alice.ask("PUT", f"{issues}/{_id}.json", comment="Who mends it?", edit=True, commentIndex=0)
    changed = hear(socket, _id, "commentChanged")
    assert (changed["comment"], changed["guid"]) == ("Who mends it?", comment["guid"])

    alice.ask("PUT", f"{issues}/{_id}.json", delete=True, commentIndex=0)
    assert hear(socket, _id, "commentDeleted")["guid"] == comment["guid"]

    alice.ask("PUT", f"{issues}/{_id}.json", priority="high")
    assert hear(socket, _id, "issueChanged")["priority"] == "high"
    action = hear(socket, _id, "newComment")["action"]
    assert action == {"property": "priority", "from": "low", "to": "high"}


@pytest.mark.parametrize("client", ["1.4.0", "2.0.4"])
def test_who_may_not_read_is_refused(demo: Demo, js_clients: JsClients, client: str) -> None:
    mallory = Person(demo.url, "mallory")
    socket = js_clients.connect(demo.url, client=client, headers={"Cookie": mallory.cookie})
    socket.emit("join", ROOM)
    assert socket.wait_for("credentialError") == [{"code": "ROOM_NOT_FOUND", "message": "Model not found"}]
    stranger = js_clients.connect(demo.url, client=client)
    stranger.emit("join", ROOM)
    assert stranger.wait_for("credentialError") == [{"code": "UNAUTHORISED", "message": "You are not logged in"}]
