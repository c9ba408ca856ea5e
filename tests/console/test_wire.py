"""The page's own Socket.IO client, in the browser: its codec, and what it makes of a server's refusals."""

from __future__ import annotations

from typing import Any

import pytest
from selenium import webdriver

from tests.console.browser import Console
from tests.console.server import Demo

pytestmark = pytest.mark.browser

# Socket.IO protocol 5 and 4, section "Packet encoding": the packet, and what it says.
PACKETS = [
    ("0", {"type": 0, "namespace": "/"}),
    ('0{"sid":"a"}', {"type": 0, "namespace": "/", "data": {"sid": "a"}}),
    ("0/legacy_v4,", {"type": 0, "namespace": "/legacy_v4"}),
    ('2["error",{"a":"/,1"}]', {"type": 2, "namespace": "/", "data": ["error", {"a": "/,1"}]}),
    (
        '2/legacy_v4,["joined",{"account":"\u00e4"}]',
        {"type": 2, "namespace": "/legacy_v4", "data": ["joined", {"account": "\u00e4"}]},
    ),
    ('4"Invalid namespace"', {"type": 4, "namespace": "/", "data": "Invalid namespace"}),
    ('4/no,{"message":"Invalid namespace"}', {"type": 4, "namespace": "/no", "data": {"message": "Invalid namespace"}}),
]
# Forms that only a peer writes.
READ_ONLY = [
    ("0/legacy_v4", {"type": 0, "namespace": "/legacy_v4"}),
    ('0/legacy_v4?token=1,{"sid":"a"}', {"type": 0, "namespace": "/legacy_v4", "data": {"sid": "a"}}),
    ('213["error"]', {"type": 2, "namespace": "/", "data": ["error"]}),
    ('3/legacy_v4,7["done"]', {"type": 3, "namespace": "/legacy_v4", "data": ["done"]}),
]
WRONG = ["", "9", "x", "2[", '2["a"', '51-["a",{"_placeholder":true,"num":0}]', "6"]


@pytest.fixture(scope="module")
def page(browser: webdriver.Chrome, demo: Demo) -> Console:
    """Return the opened page; these tests leave nothing behind on it."""
    opened = Console(browser, demo.url)
    opened.open()
    return opened


def in_page(page: Console, body: str, *arguments: Any) -> Any:
    """Run `body` with the names that wire.js exports; its promise's value is the result."""
    script = """
        const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);
        import("/console/wire.js").then(async (wire) => done(await (async (wire, given) => {%s})(wire, given)))
            .catch((error) => done(`${error.constructor.name}: ${error.message}`));
    """
    return page.driver.execute_async_script(script % body, *arguments)


@pytest.mark.parametrize(("text", "packet"), [*PACKETS, *READ_ONLY])
def test_a_packet_is_read(page: Console, text: str, packet: dict[str, Any]) -> None:
    assert in_page(page, "return wire.decodePacket(given[0])", text) == {"data": None, **packet}


@pytest.mark.parametrize(("text", "packet"), PACKETS)
def test_a_packet_is_written(page: Console, text: str, packet: dict[str, Any]) -> None:
    assert in_page(page, "return wire.encodePacket(given[0])", packet) == text


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_packet_is_named(page: Console, text: str) -> None:
    assert in_page(page, "return wire.decodePacket(given[0])", text).startswith("WireError: ")


def test_an_unknown_generation_is_refused(page: Console) -> None:
    said = in_page(page, "new wire.ChatSocket({ eio: 2 })")
    assert said == "WireError: eio must be 3 or 4, not 2"


@pytest.mark.parametrize(
    ("host", "path", "eio", "url"),
    [
        ("http://a.example:81", "/chat", 4, "ws://a.example:81/chat/?EIO=4&transport=websocket"),
        ("https://a.example", "/chat/", 3, "wss://a.example/chat/?EIO=3&transport=websocket"),
    ],
)
def test_the_address_of_a_service(page: Console, host: str, path: str, eio: int, url: str) -> None:
    assert in_page(page, "return wire.socketUrl(given[0])", {"host": host, "path": path, "eio": eio}) == url


STATES = """
    const seen = [];
    return new Promise((resolve) => {
        const socket = new wire.ChatSocket({
            host: ClientConfig.chatHost,
            path: ClientConfig.chatPath,
            namespace: given[0],
            eio: given[1],
            onState: (state, reason) => {
                seen.push(state, reason);
                if (state === "connected") socket.disconnect();
                if (state === "offline") resolve(seen);
            },
            onEvent: () => {},
        });
        socket.connect();
    });
"""


@pytest.mark.parametrize("eio", [3, 4])
@pytest.mark.parametrize("namespace", ["/", "/legacy_v4"])
def test_a_connection_in_either_generation(page: Console, namespace: str, eio: int) -> None:
    assert in_page(page, STATES, namespace, eio) == ["connecting", "", "connected", "", "offline", "you disconnected"]


@pytest.mark.parametrize("eio", [3, 4])
def test_a_refused_namespace_ends_the_attempts(page: Console, eio: int) -> None:
    assert in_page(page, STATES, "/nowhere", eio) == ["connecting", "", "offline", "refused: Invalid namespace"]


LOST = """
    const ids = [];
    return new Promise((resolve) => {
        const socket = new wire.ChatSocket({
            host: ClientConfig.chatHost,
            path: ClientConfig.chatPath,
            namespace: given[0],
            eio: given[1],
            onState: (state, reason) => {
                if (state !== "connected") return;
                ids.push(socket.id);
                if (ids.length === 1) return socket.lose(1);
                socket.disconnect();
                resolve([ids[0] === ids[1], socket.recovered]);
            },
            onEvent: () => {},
        });
        socket.connect();
    });
"""


@pytest.mark.parametrize("eio", [3, 4])
@pytest.mark.parametrize("namespace", ["/", "/legacy_v4"])
def test_a_lost_connection_is_recovered_where_the_generation_can(page: Console, namespace: str, eio: int) -> None:
    assert in_page(page, LOST, namespace, eio) == [eio == 4, eio == 4]


def test_nothing_is_sent_while_not_connected(page: Console) -> None:
    body = """
        const ignore = () => {};
        new wire.ChatSocket({ host: "", path: "/chat", onState: ignore, onEvent: ignore }).emit("join", {});
    """
    assert in_page(page, body) == "WireError: not connected"
