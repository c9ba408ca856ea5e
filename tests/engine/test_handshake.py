from __future__ import annotations

import socket
from collections.abc import Callable
from http.client import HTTPConnection

import pytest
import websocket

from .serve import ORIGIN
from .support import EIO4, Served

POLLING = {"transport": "polling"}
WEBSOCKET = {"transport": "websocket"}


def test_opens_a_polling_session(engine: Served) -> None:
    answer = engine.request("GET", **EIO4, **POLLING)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
    greeting = engine.poller().greeting
    assert set(greeting) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
    assert greeting["upgrades"] == ["websocket"]
    assert (greeting["pingInterval"], greeting["pingTimeout"], greeting["maxPayload"]) == (25_000, 20_000, 1_000_000)


def test_opens_a_websocket_session(engine: Served) -> None:
    opened = engine.websocket().receive()
    assert isinstance(opened, str)
    assert opened.startswith('0{"sid":"')
    assert '"upgrades":[]' in opened


def test_tells_fractions_of_a_second(hasty: Served) -> None:
    greeting = hasty.poller().greeting
    assert (greeting["pingInterval"], greeting["pingTimeout"]) == (300, 200)


# The query, the method, and the code of the error.
REFUSED = [
    ({"EIO": "4"}, "GET", 0),
    ({"EIO": "4", "transport": "abc"}, "GET", 0),
    ({"EIO": "4", "transport": ""}, "GET", 0),
    ({**EIO4, **POLLING, "sid": "unknown"}, "GET", 1),
    ({**EIO4, **POLLING, "sid": ""}, "GET", 1),
    ({**EIO4, **POLLING, "sid": "unknown"}, "POST", 1),
    ({**EIO4, **POLLING}, "POST", 2),
    ({**EIO4, **POLLING}, "PUT", 2),
    ({**EIO4, **POLLING}, "DELETE", 2),
    ({**EIO4, **WEBSOCKET}, "GET", 3),
    (POLLING, "GET", 5),
    ({"EIO": "", **POLLING}, "GET", 5),
    ({"EIO": "abc", **POLLING}, "GET", 5),
    ({"EIO": "3", **POLLING}, "GET", 5),
    ({"EIO": "44", **POLLING}, "GET", 5),
]


@pytest.mark.parametrize(("query", "method", "code"), REFUSED)
def test_refuses_a_bad_handshake_and_keeps_the_connection(
    engine: Served, query: dict[str, str], method: str, code: int,
) -> None:
    connection = HTTPConnection("127.0.0.1", engine.port, timeout=10)
    target = "/chat/?" + "&".join(f"{name}={value}" for name, value in query.items())
    for _ in range(2):
        connection.request(method, target, b"4hello" if method == "POST" else None)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 400
        assert body.startswith(b'{"code": %d, "message": "' % code)
    connection.close()


def test_refuses_a_repeated_parameter(engine: Served) -> None:
    assert engine.http("GET", "/chat/?EIO=4&EIO=4&transport=polling").json["code"] == 3


def test_says_what_another_generation_needs(start: Callable[..., Served]) -> None:
    answer = start(hint="switch it on").request("GET", EIO="3", **POLLING)
    assert answer.status == 400
    assert answer.json == {"code": 5, "message": "EIO=3: switch it on"}


@pytest.mark.parametrize("query", [POLLING, {"EIO": "abc", **POLLING}])
def test_a_session_is_reached_by_its_own_generation_only(engine: Served, query: dict[str, str]) -> None:
    poller = engine.poller()
    assert engine.request("GET", sid=poller.sid, **query).json["code"] == 3
    poller.send("40")
    assert str(poller.receive()).startswith("40")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_a_session_takes_gets_and_posts_only(engine: Served, method: str) -> None:
    poller = engine.poller()
    assert engine.request(method, **EIO4, **POLLING, sid=poller.sid).status == 400
    poller.send("40")
    assert str(poller.receive()).startswith("40")


BAD_WEBSOCKETS = [{"EIO": ""}, {"EIO": "abc"}, {"EIO": "3"}, {"transport": "abc"}, {"sid": "unknown"}]


@pytest.mark.parametrize("query", BAD_WEBSOCKETS)
def test_closes_a_websocket_with_a_bad_handshake(engine: Served, query: dict[str, str]) -> None:
    try:
        assert engine.websocket(**query).receive_all() == []
    except websocket.WebSocketBadStatusException as refused:
        assert refused.status_code == 400  # noqa: PT017 - a foreign handler may have switched protocols already


UPGRADE = {
    "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
MALFORMED = [
    {"Sec-WebSocket-Version": "12"},
    {"Sec-WebSocket-Version": ""},
    {"Sec-WebSocket-Key": ""},
    {"Sec-WebSocket-Key": "short"},
    {"Sec-WebSocket-Key": "dGhlIHNhbXBsZQ=="},
    {"Connection": "keep-alive"},
    {"Upgrade": "h2c"},
]


@pytest.mark.parametrize("change", MALFORMED)
@pytest.mark.parametrize("kind", ["gevent", "threading"])
def test_answers_a_malformed_upgrade(kind: str, change: dict[str, str], request: pytest.FixtureRequest) -> None:
    engine: Served = request.getfixturevalue("plain")[kind]
    answer = engine.request("GET", None, {**UPGRADE, **change}, **EIO4, **WEBSOCKET)
    assert answer.status == 400
    assert answer.json["code"] == 3


def test_answers_an_upgrade_with_another_method(engine: Served) -> None:
    assert engine.request("POST", b"", UPGRADE, **EIO4, **WEBSOCKET).status == 400


def test_polling_with_an_upgrade_header_is_polling(plain: dict[str, Served]) -> None:
    answer = plain["gevent"].request("GET", None, UPGRADE, **EIO4, **POLLING)
    assert answer.status == 200
    assert answer.text.startswith("0{")


@pytest.mark.parametrize("origin", ["http://foe.example", "null", "", "http://friend.example.foe.example"])
def test_refuses_a_foreign_origin(engine: Served, origin: str) -> None:
    answer = engine.request("GET", None, {"Origin": origin}, **EIO4, **POLLING)
    assert answer.status == 400
    assert answer.json == {"code": 4, "message": "Origin not allowed"}
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["http://foe.example", "null"])
def test_refuses_a_foreign_websocket(plain: dict[str, Served], origin: str) -> None:
    for engine in plain.values():
        with pytest.raises(websocket.WebSocketBadStatusException, match="400"):
            engine.websocket(origin=origin)


def test_closes_a_foreign_websocket_that_is_open_already(engine: Served) -> None:
    if engine.handler == "stock":
        assert engine.websocket(origin="http://foe.example").receive_all() == []


def test_lets_a_known_origin_in(engine: Served) -> None:
    answer = engine.request("GET", None, {"Origin": ORIGIN}, **EIO4, **POLLING)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in answer.headers["vary"]
    assert engine.websocket(origin=ORIGIN).receive() is not None


def test_answers_a_preflight(engine: Served) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Headers": "x-mine", "Access-Control-Request-Method": "POST"}
    answer = engine.request("OPTIONS", None, asked, **EIO4, **POLLING)
    assert (answer.status, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "x-mine"
    assert engine.request("OPTIONS", None, {**asked, "Origin": "http://foe.example"}, **EIO4, **POLLING).status == 400


# What `allowed_origins` may be, and whether it lets the origin in.
ORIGINS: list[tuple[str | list[str], str, int]] = [
    ([], "http://one.example", 400), (["*"], "http://any.example", 200),
    (["http://one.example"], "http://one.example", 200), (["http://one.example"], "http://any.example", 400),
    ("check", "http://checked.example", 200), ("check", "http://any.example", 400),
]


@pytest.mark.parametrize("allowed", [[], ["*"], ["http://one.example"], "check"])
def test_origins_may_be_given_in_several_ways(start: Callable[..., Served], allowed: str | list[str]) -> None:
    engine = start(allowed_origins=allowed)
    for given, origin, status in ORIGINS:
        if given == allowed:
            headers = {"Origin": origin}
            assert engine.request("GET", None, headers, **EIO4, **POLLING).status == status


def test_answers_garbage_before_http(engine: Served) -> None:
    with engine.raw() as raw:
        raw.sendall(b"\x16\x03\x01garbage\r\n\r\n")
        raw.shutdown(socket.SHUT_WR)
        assert b"400" in raw.recv(1000)


def test_offers_no_upgrade_where_there_is_none(start: Callable[..., Served]) -> None:
    engine = start(allow_upgrades=False)
    poller = engine.poller()
    assert poller.greeting["upgrades"] == []
    with pytest.raises(websocket.WebSocketBadStatusException):
        engine.websocket(sid=poller.sid)
    assert start(transports=["websocket"]).request("GET", **EIO4, **POLLING).json["code"] == 0
