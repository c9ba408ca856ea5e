"""Connections of Engine.IO 3, packet by packet over real sockets (spec sections 7 and 8)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import websocket

pytest.importorskip("legacy_v4")

from repo_notify.demo.seed import STRUCTURE
from tests.legacy_v4.clients import (
    NAMESPACE,
    ROOM,
    Client,
    Polling,
    WebSocket,
    ask,
    event,
    join_room,
    read,
    receive_event,
    split,
)
from tests.legacy_v4.conftest import state_of
from tests.support.served import SECONDS, Served, User
from tests.support.until import until

Connect = Callable[..., Client]
BINARY = "application/octet-stream"


# Handshake.


def test_a_handshake_is_followed_by_the_connect_of_the_default_namespace(
    observed: Served, connect: Connect, transport: str
) -> None:
    client = connect(observed)
    assert client.greeting["upgrades"] == (["websocket"] if transport == "polling" else [])
    assert set(client.greeting) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}


def test_times_are_milliseconds(hasty: Served, connect: Connect) -> None:
    greeting = connect(hasty).greeting
    assert (greeting["pingInterval"], greeting["pingTimeout"]) == (300, 300)


def test_a_script_may_be_asked_for(observed: Served) -> None:
    query = {"EIO": "3", "transport": "polling", "j": "12"}
    opened = ask(observed.port, "GET", query)
    assert opened.content_type == "text/javascript; charset=UTF-8"
    assert opened.text.startswith("___eio[12](")
    first, *others = split(json.loads(opened.text[len("___eio[12](") : -2]))
    query["sid"] = json.loads(first[1:])["sid"]
    if not others:
        assert ask(observed.port, "GET", query).text == '___eio[12]("2:40");'
    posted = ask(observed.port, "POST", query, b"d=1%3A2", {"Content-Type": "application/x-www-form-urlencoded"})
    assert (posted.text, posted.content_type) == ("ok", "text/html")
    assert ask(observed.port, "GET", query).text == '___eio[12]("1:3");'
    ask(observed.port, "POST", query, b"d=1%3A1")


def test_an_index_that_is_no_number_is_refused(observed: Served) -> None:
    refused = ask(observed.port, "GET", {"EIO": "3", "transport": "polling", "j": "alert(1)"})
    assert (refused.status, refused.message) == (400, "j is no number")


@pytest.mark.parametrize("polling", [True, False])
def test_without_legacy_a_handshake_is_told_what_to_switch_on(serve_host: Callable[..., Served], polling: bool) -> None:
    served = serve_host(REPO_NOTIFY_LEGACY_V4=False)
    if polling:
        refused = ask(served.port, "GET", {"EIO": "3", "transport": "polling"})
        status, body = refused.status, refused.content
    else:
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            WebSocket(served.port)
        status, body = caught.value.status_code, caught.value.resp_body or b""
    assert status == 400
    assert json.loads(body) == {
        "code": 5,
        "message": "Unsupported protocol version: clients of Engine.IO 3 need REPO_NOTIFY_LEGACY_V4 switched on",
    }


# Heartbeat.


def test_the_client_pings_and_the_server_answers(observed: Served, connect: Connect) -> None:
    client = connect(observed)
    client.send("2")
    assert client.receive() == "3"
    client.send("2probe")
    assert client.receive() == "3probe"


def test_a_client_that_pings_stays(hasty: Served, connect: Connect) -> None:
    client = connect(hasty)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        client.send("2")
        assert client.receive() == "3"


def test_a_silent_client_is_closed_and_never_pinged(hasty: Served, connect: Connect) -> None:
    client = connect(hasty)
    before = time.monotonic()
    assert client.receive() is None
    assert 0.5 < time.monotonic() - before < 5
    if isinstance(client, Polling):
        assert client.is_gone


def test_a_client_that_never_polls_is_closed(hasty: Served) -> None:
    client = Polling(hasty.port)
    until(lambda: state_of(hasty)["connections"] == 0)
    assert client.is_gone


# Upgrade.


def upgrade(client: Polling) -> WebSocket:
    """A WebSocket whose probe was answered."""
    socket = WebSocket(client.port, sid=client.sid)
    socket.send("2probe")
    assert socket.receive() == "3probe"
    return socket


def test_an_upgrade_loses_and_reorders_nothing(observed: Served, cookie: str) -> None:
    client = Polling(observed.port, cookie)
    assert client.receive() == "40"
    client.send(event("join", ROOM, number=1))
    got: list[str] = []
    with upgrade(client) as socket:
        while (packet := client.receive()) not in ("6", None):
            got.append(str(packet))
        socket.send("5", event("leave", ROOM, number=2))
        while not got or not got[-1].startswith("432"):
            got.append(str(socket.receive()))
    names = [packet[:3] if packet[:2] == "43" else read(packet)[0] for packet in got]
    assert names == ["joined", "message", "431", "message", "432"]


def test_after_the_upgrade_polling_is_refused(observed: Served) -> None:
    client = Polling(observed.port)
    assert client.receive() == "40"
    with upgrade(client) as socket:
        assert client.receive() == "6"
        socket.send("5", "2")
        assert socket.receive() == "3"
        assert client.get().status == 400
        assert client.is_gone
        socket.send("2")
        assert socket.receive() == "3"


@pytest.mark.parametrize("frames", [["2"], ["4probe"], ["2probe", "2probe"], ["9"], [b"\x04x"], [b""]])
def test_a_failed_upgrade_leaves_the_polling_session(observed: Served, frames: list[str | bytes]) -> None:
    client = Polling(observed.port)
    assert client.receive() == "40"
    with WebSocket(observed.port, sid=client.sid) as socket:
        socket.send(*frames)
        if frames[0] == "2probe":
            assert socket.receive() == "3probe"
        assert socket.is_gone
    client.send("2")
    until(lambda: client.receive() == "3")
    client.close()


def test_a_probe_that_never_finishes_ends_and_polling_goes_on(hasty: Served) -> None:
    client = Polling(hasty.port)
    assert client.receive() == "40"
    with upgrade(client) as socket:
        assert client.receive() == "6"
        socket.connection.settimeout(0.1)
        gone = False
        while not gone:
            client.send("2")
            assert client.receive() in ("3", "6")
            try:
                gone = socket.is_gone
            except websocket.WebSocketTimeoutException:
                gone = False
    client.send("2")
    until(lambda: client.receive() == "3")
    client.close()


# Namespaces.


@pytest.mark.parametrize("spelling", [NAMESPACE, f"{NAMESPACE},", f"{NAMESPACE}?token=1", f"{NAMESPACE}?token=1,"])
def test_a_namespace_is_entered_and_left(observed: Served, connect: Connect, cookie: str, spelling: str) -> None:
    client = connect(observed, cookie=cookie)
    client.send(f"40{spelling}")
    assert client.receive() == f"40{NAMESPACE},"
    join_room(client, NAMESPACE)
    client.send(f"41{NAMESPACE}", event("leave", {}, number=3))
    # The default namespace goes on.
    assert receive_event(client, "error")["code"] == "ROOM_NOT_FOUND"
    assert str(client.receive()).startswith("433[")
    client.send(f"40{NAMESPACE}")
    assert client.receive() == f"40{NAMESPACE},"


def test_an_unknown_namespace_is_an_error_with_a_string(observed: Served, connect: Connect) -> None:
    client = connect(observed)
    client.send("40/nowhere?a=b,")
    assert client.receive() == '44/nowhere,"Invalid namespace"'
    client.send("2")
    assert client.receive() == "3"


def test_the_default_namespace_is_there_also_where_nobody_uses_it(serve_host: Callable[..., Served]) -> None:
    with WebSocket(serve_host(REPO_NOTIFY_NAMESPACE="/v5").port) as client:
        assert client.receive() == "40"
        client.send(event("join", ROOM, number=1), "40/v5")
        assert client.receive() == "40/v5,"
        client.send(event("join", ROOM, namespace="/v5"))
        assert receive_event(client, "credentialError")["code"] == "UNAUTHORISED"


def test_a_goodbye_ends_the_membership(observed: Served, connect: Connect, cookie: str) -> None:
    client = connect(observed, cookie=cookie)
    join_room(client)
    rooms = state_of(observed)["rooms"]
    client.send("41")
    until(lambda: state_of(observed)["rooms"] < rooms)


def test_a_close_packet_ends_the_connection(observed: Served, connect: Connect) -> None:
    client = connect(observed)
    client.send("1")
    if isinstance(client, Polling):
        assert client.is_gone
    else:
        assert client.receive() is None


# Acknowledgements.


@pytest.mark.parametrize("namespace", ["/", NAMESPACE])
def test_the_server_acknowledges(observed: Served, connect: Connect, cookie: str, namespace: str) -> None:
    client = connect(observed, cookie=cookie)
    where = "" if namespace == "/" else f"{namespace},"
    if where:
        client.send(f"40{where}")
        assert client.receive() == f"40{where}"
    client.send(event("join", ROOM, namespace=namespace, number=0))
    names = [read(client.receive())[0] for _ in range(2)]
    assert names == ["joined", "message"]
    answer = str(client.receive())
    assert answer.startswith(f"43{where}0[")
    assert json.loads(answer[answer.index("[") :]) == [
        {"event": "success", "data": {"action": "join", "data": ROOM}}
    ]


def server_asks(served: Served, sid: str, data: Any, namespace: str = "/") -> Callable[[], Any]:
    """Have the server ask a client, in the background; the result gives the answer."""
    pool = ThreadPoolExecutor(1)
    body = json.dumps({"data": data, "to": sid, "namespace": namespace})
    found = pool.submit(requests.post, served.url + "/ask", body, timeout=SECONDS)
    pool.shutdown(wait=False)
    return lambda: found.result(SECONDS).json()["answer"]


@pytest.mark.parametrize("namespace", ["/", NAMESPACE])
def test_the_client_acknowledges(observed: Served, connect: Connect, namespace: str) -> None:
    client = connect(observed)
    where, sid = ("", client.sid) if namespace == "/" else (f"{namespace},", f"{namespace}#{client.sid}")
    if where:
        client.send(f"40{where}")
        assert client.receive() == f"40{where}"
    answer = server_asks(observed, sid, {"n": 1}, namespace)
    assert client.receive() == f'42{where}1["question",{{"n":1}}]'
    client.send(f'43{where}1["yes"]')
    assert answer() == "'yes'"


BYTES = {"__bytes__": base64.b64encode(b"\x00\xff").decode()}
QUESTION = '451-1["question",{"_placeholder":true,"num":0}]'
YES = '461-1[{"_placeholder":true,"num":0}]'


def test_binary_over_websocket_leads_with_its_type(observed: Served) -> None:
    with WebSocket(observed.port) as client:
        assert client.receive() == "40"
        answer = server_asks(observed, client.sid, BYTES)
        assert [client.receive(), client.receive()] == [QUESTION, b"\x04\x00\xff"]
        client.send(YES, b"\x04\x01")
        assert answer() == repr(b"\x01")


def test_binary_over_polling(observed: Served) -> None:
    client = Polling(observed.port)
    assert client.receive() == "40"
    answer = server_asks(observed, client.sid, BYTES)
    got = client.get()
    assert got.content_type == BINARY
    digits = [int(digit) for digit in str(len(QUESTION))]
    assert got.content == bytes([0, *digits, 255]) + QUESTION.encode() + b"\x01\x03\xff\x04\x00\xff"
    digits = [int(digit) for digit in str(len(YES))]
    assert client.post(bytes([0, *digits, 255]) + YES.encode() + b"\x01\x02\xff\x04\x01", BINARY).status == 200
    assert answer() == repr(b"\x01")
    client.close()


def test_binary_over_polling_as_base64(observed: Served) -> None:
    client = Polling(observed.port, b64="1")
    assert client.receive() == "40"
    answer = server_asks(observed, client.sid, BYTES)
    assert client.receive() == QUESTION
    assert client.receive() == "b4" + base64.b64encode(b"\x00\xff").decode()
    client.send(YES, "b4" + base64.b64encode(b"\x01").decode())
    assert answer() == repr(b"\x01")
    client.close()


def test_base64_is_told_once_for_the_session(observed: Served) -> None:
    client = Polling(observed.port, b64="1")
    assert client.receive() == "40"
    del client.query["b64"]
    server_asks(observed, client.sid, BYTES)
    assert client.receive() == QUESTION
    assert client.receive() == "b4" + base64.b64encode(b"\x00\xff").decode()
    # And a session that has not said so gets none by a later parameter.
    other = Polling(observed.port)
    assert other.receive() == "40"
    other.query["b64"] = "1"
    server_asks(observed, other.sid, BYTES)
    assert other.get().content_type == BINARY
    client.close()
    other.close()


def test_base64_holds_after_the_upgrade_too(observed: Served) -> None:
    client = Polling(observed.port, b64="1")
    assert client.receive() == "40"
    with WebSocket(observed.port, sid=client.sid) as upgraded:
        upgraded.send("2probe")
        assert upgraded.receive() == "3probe"
        upgraded.send("5")
        server_asks(observed, client.sid, BYTES)
        assert [packet for packet in (upgraded.receive() for _ in range(2)) if packet != "6"] == [
            QUESTION, "b4" + base64.b64encode(b"\x00\xff").decode()
        ]


# Ids.


@pytest.mark.parametrize("spelling", ["{}", f"{NAMESPACE}#{{}}"])
def test_the_id_of_the_client_binds_and_excludes(observed: Served, connect: Connect, spelling: str) -> None:
    client = connect(observed)
    client.send(f"40{NAMESPACE}")
    assert client.receive() == f"40{NAMESPACE},"
    client.send(event("join", ROOM))
    assert receive_event(client, "credentialError")["code"] == "UNAUTHORISED"
    assert receive_event(client, "error")["code"] == "UNAUTHORISED"
    name = spelling.format(client.sid)
    user = User(observed).log_in("carol", socket_id=name)
    join_room(client)
    join_room(client, NAMESPACE)
    user.publish("IssuesCreated", socket_id=name, teamspace="acme", model=STRUCTURE, issues=[])
    user.publish("IssuesCreated", teamspace="acme", model=STRUCTURE, issues=[{"_id": "i"}])
    # Once in each namespace; the first one, of which the client is the emitter, in none.
    for _ in range(2):
        assert receive_event(client, f"acme::{STRUCTURE}::newIssues") == [{"_id": "i"}]
