"""The harness, against a stock python-socketio server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.harness import ClientError, Event, JsClients
from tests.clients.install import Node

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("stock_server.py"))], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    with server, server.stdout:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize(
    "args",
    [(), ({"teamspace": "acme", "n": [1, 2.5, None, True]},), ("Zürich \u2028 🏗", "b"), ({"deep": [b"\x00\x01\xff"]},)],
    ids=["none", "object", "strings", "binary"],
)
def test_events_and_acknowledgements_arrive_as_they_were_sent(
    js_clients: JsClients, url: str, transport: str, args: tuple[object, ...]
) -> None:
    socket = js_clients.connect(url, transports=[transport])
    assert socket.transport() == transport
    assert socket.call("echo", *args) == [list(args)]
    assert socket.wait_for("echo") == list(args)
    assert [event.name for event in socket.events] == ["hello", "echo"]


def test_headers_and_query_are_on_the_handshake(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(url, headers={"Cookie": "connect.sid=abc"}, query={"connect.sid": "def"})
    (hello,) = socket.wait_for("hello")
    assert hello["cookie"] == "connect.sid=abc"
    assert "connect.sid=def" in hello["query"]


def test_a_wait_takes_the_first_that_satisfies_it_and_leaves_the_others(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(url)
    for number in (1, 2, 3):
        socket.emit("n", number)
    assert socket.wait_for("n", lambda number: number > 1) == [2]
    assert socket.wait_for("n") == [1]
    assert socket.wait_for("n") == [3]
    assert socket.events[1:] == [Event("n", [1]), Event("n", [2]), Event("n", [3])]


def test_an_event_named_error_is_an_event(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(url)
    socket.emit("error", {"code": "ROOM_NOT_FOUND"})
    assert socket.wait_for("error") == [{"code": "ROOM_NOT_FOUND"}]


def test_the_server_may_ask_for_an_acknowledgement(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(url)
    socket.emit("ask", "how many?")
    assert socket.wait_for("answered") == ["how many?"]


def test_sockets_do_not_mix(js_clients: JsClients, url: str) -> None:
    one, other = js_clients.connect(url), js_clients.connect(url, transports=["polling"])
    assert one.id != other.id
    one.call("echo", "one")
    other.call("barrier")
    assert one.wait_for("echo") == ["one"]
    assert [event.name for event in other.events] == ["hello", "barrier"]


def test_polling_is_upgraded_where_both_are_offered(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(url, transports=["polling", "websocket"])
    socket.wait_upgraded()
    assert socket.transport() == "websocket"
    assert socket.call("echo", 1) == [[1]]


def test_a_dropped_socket_comes_back_with_another_id(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(url, reconnection=True, options={"reconnectionDelay": 20})
    first = socket.id
    socket.drop()
    assert socket.wait_disconnected() == "transport close"
    assert socket.wait_connected() != first
    assert socket.call("echo") == [[]]


def test_either_side_may_say_goodbye(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(url)
    socket.disconnect()
    assert socket.wait_disconnected() == "io client disconnect"
    socket.open()
    socket.wait_connected()
    socket.emit("bye")
    assert socket.wait_disconnected() == "io server disconnect"


def test_a_refused_namespace_is_told(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(f"{url}/private", wait=False)
    assert socket.wait_refused() == "not for you"
    with pytest.raises(ClientError, match="has not been connected"):
        _ = socket.id


def test_a_server_that_is_not_there_is_told(js_clients: JsClients) -> None:
    socket = js_clients.connect("http://127.0.0.1:1", wait=False)
    assert socket.wait_refused() == "websocket error"


def test_what_does_not_arrive_fails_with_what_did(js_clients: JsClients, url: str) -> None:
    socket = js_clients.connect(url)
    socket.call("echo", "here")
    with pytest.raises(ClientError, match=r"no event 'elsewhere' at 4#1 within 0.05 s; it got .*'here'"):
        socket.wait_for("elsewhere", timeout=0.05)


@pytest.mark.parametrize("client", ["0.0.0", "../../etc"])
def test_an_unknown_client_version_is_refused_by_name(js_clients: JsClients, url: str, client: str) -> None:
    with pytest.raises(ClientError, match=f"sio-{client}"):
        js_clients.connect(url, client=client)


def test_a_stopped_process_says_so(node: Node, installed_clients: Path, url: str) -> None:
    clients = JsClients(node, installed_clients)
    socket = clients.connect(url)
    clients.stop()
    clients.stop()
    with pytest.raises(ClientError, match="it was stopped"):
        socket.emit("echo")
    with pytest.raises(ClientError, match="no event 'echo'"):
        socket.wait_for("echo")
