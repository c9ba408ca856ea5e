from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from repo_notify.engine.wire.jsoncodec import MAX_DEPTH

from .support import Frame, Served, Socket

TRANSPORTS = ["websocket", "polling"]


def opened(engine: Served) -> Socket:
    client = engine.websocket()
    client.receive()
    return client


# What the client sends, and what it gets before anything else; {sid} stands for an id.
CONNECTS = [
    ("40", ['40{"sid":', '42["auth",{}]']),
    ("40/", ['40{"sid":', '42["auth",{}]']),
    ('40{"token":"123"}', ['40{"sid":', '42["auth",{"token":"123"}]']),
    ("40/custom,", ['40/custom,{"sid":', '42/custom,["auth",{}]']),
    ("40/custom", ['40/custom,{"sid":', '42/custom,["auth",{}]']),
    ('40/custom,{"token":"abc"}', ['40/custom,{"sid":', '42/custom,["auth",{}]']),
    ("40/custom?a=b,", ['40/custom,{"sid":', '42/custom,["auth",{}]']),
    ("40/named,", ['40/named,{"sid":']),
    ("40/random", ['44/random,{"message":"Invalid namespace"}']),
    ("40/random?foo=bar,", ['44/random,{"message":"Invalid namespace"}']),
    ('40{"refuse":true}', ['44{"message":"Connection rejected by server"}']),
    ('40{"crash":true}', ['44{"message":"Connection rejected by server"}']),
    ("40/refusing,", ['44/refusing,{"message":"Connection rejected by server"}']),
    ("40/explaining,", ['44/explaining,{"message":"no","data":{"why":1}}']),
]


@pytest.mark.parametrize(("sent", "answers"), CONNECTS)
def test_connects_to_a_namespace(engine: Served, sent: str, answers: list[str]) -> None:
    client = opened(engine)
    client.send(sent)
    for answer in answers:
        assert str(client.receive()).startswith(answer)
    client.send("40/random,")
    assert client.receive() == '44/random,{"message":"Invalid namespace"}'


def test_a_refused_client_may_try_again(engine: Served) -> None:
    client = opened(engine)
    client.send('40{"refuse":true}')
    assert str(client.receive()).startswith("44")
    client.send("40")
    assert str(client.receive()).startswith("40")
    client.receive()
    client.send('42["message"]')
    assert client.receive() == '42["message-back"]'


@pytest.mark.parametrize("namespace", ["/", "/custom"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_events_and_acknowledgements(engine: Served, transport: str, namespace: str) -> None:
    client = engine.client(namespace) if transport == "websocket" else engine.polling_client(namespace)
    prefix = "" if namespace == "/" else namespace + ","
    client.send(f'42{prefix}["message",1,"2",{{"3":[true]}}]')
    assert client.receive() == f'42{prefix}["message-back",1,"2",{{"3":[true]}}]'
    client.send(f'42{prefix}456["message-with-ack",1,"2",{{"3":[false]}}]')
    assert client.receive() == f'43{prefix}456[1,"2",{{"3":[false]}}]'
    client.send(f'42{prefix}["ask",7]')
    question = str(client.receive())
    assert question == f'42{prefix}1["question",7]'
    client.send(f'43{prefix}1["answer"]')
    assert client.receive() == f'42{prefix}["asked","answer"]'


def test_binary_in_both_directions(engine: Served) -> None:
    client = engine.client()
    placeholders = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
    client.send(f'452-["message",{placeholders}]')
    client.send(b"\1\2\3")
    client.send(b"\4\5\6")
    assert [client.receive() for _ in range(3)] == [f'452-["message-back",{placeholders}]', b"\1\2\3", b"\4\5\6"]
    client.send(f'452-9["message-with-ack",{placeholders}]')
    client.send(b"")
    client.send(b"\0" * 70_000)
    assert client.receive() == f'462-9[{placeholders}]'
    assert client._connection.recv() == b""
    assert client.receive() == b"\0" * 70_000
    client.send('42["ask"]')
    assert client.receive() == '421["question"]'
    client.send('461-1[{"_placeholder":true,"num":0}]')
    client.send(b"x")
    assert [client.receive(), client.receive()] == ['451-["asked",{"_placeholder":true,"num":0}]', b"x"]


def test_placeholders_anywhere(engine: Served) -> None:
    client = engine.client()
    client.send('451-["message",[{"a":{"b":[{"_placeholder":true,"num":0}]}},{"_placeholder":false}]]')
    client.send(b"x")
    arguments = '[{"a":{"b":[{"_placeholder":true,"num":0}]}},{"_placeholder":false}]'
    assert client.receive() == f'451-["message-back",{arguments}]'
    assert client.receive() == b"x"


# Each ends the connection of a client that is in the default namespace.
MALFORMED: list[list[Frame]] = [
    ["4"], ["4abc"], ["47"], ["49[]"], ["4-1"],
    ["42"], ["42{}"], ["42[]"], ["42[null]"], ["42[{}]"], ["42[true]"],
    ['42["message"'], ['42["message"]x'], ['42abc["x"]'],
    ['42["message",NaN]'], ['42["message",Infinity]'], ['42["message",-Infinity]'], ['42["message",1e999]'],
    ['4299999999999999999999["message"]'], ["42" + "1" * 1000 + '["message"]'],
    ['42-1["message"]'], ['421-["message"]'],
    ["43[]"], ["431"], ["431{}"], ["43"],
    ["40"], ["40[]"], ["40null"], ['40"x"'], ["401"], ["40{"],
    ["41[]"], ["41{}"], ["411"],
    ["44"], ['44{"message":"x"}'],
    ['45["message"]'], ['45-["message"]'], ['4511-["message"]'], ['45999999999999-["message"]'], ['45-1-["message"]'],
    ['451-["message",{"_placeholder":true,"num":1}]', b"x"],
    ['451-["message",{"_placeholder":true,"num":-1}]', b"x"],
    ['451-["message",{"_placeholder":true,"num":"0"}]', b"x"],
    ['451-["message",{"_placeholder":true,"num":false}]', b"x"],
    ['451-["message",{"_placeholder":true}]', b"x"],
    ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
    ['451-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]', b"x"],
    ['452-["message",{"_placeholder":true,"num":0}]', b"x", b"x"],
    ['451-["message"]', b"x"],
    ['451-/custom,["message",{"_placeholder":true,"num":0}]', b"x"],
    [b"x"],
    ['42/custom,["message"]'], ["41/custom,"], ["43/custom,1[]"], ['42/random,["message"]'],
    ["0"], ["2"], ["2probe"], ["5"], ["6"], ["7"], ["abc"], ["bAQ=="], ["€"],
]


@pytest.mark.parametrize("packets", MALFORMED, ids=lambda packets: str(packets[0])[:30])
def test_malformed_packets_end_their_connection_only(plain: dict[str, Served], packets: list[Frame]) -> None:
    engine = plain["gevent"]
    witness, client = engine.client(), engine.client()
    for packet in packets:
        client.send(packet)
    assert client.receive_all() == []
    witness.send('42["message"]')
    assert witness.receive() == '42["message-back"]'


@pytest.mark.parametrize("packets", [["4abc"], ['42/custom,["message"]'], ["bAQ=="]])
def test_malformed_packets_end_a_polling_session(engine: Served, packets: list[str]) -> None:
    poller = engine.polling_client()
    poller.post("\x1e".join(packets))
    assert poller.is_gone


# What is odd but well-formed, and what comes back.
HARMLESS = [
    ('42["nobody-listens",1]', None), ('421["nobody-listens",1]', None), ("42[1]", None), ("42[1.5,2]", None),
    ('42["crash",1]', None), ('427["crash",1]', None), ("4399[1]", None),
    ('42["connect",{}]', None), ('42["disconnect","x"]', None), ('42["*","x"]', None), ('42["newListener"]', None),
    ('42["message",{"a":1,"a":2}]', '42["message-back",{"a":2}]'),
    ('42["message","\\ud800"]', '42["message-back","\\ud800"]'),
    ('42["message",' + "9" * 400 + "]", '42["message-back",' + "9" * 400 + "]"),
    ('450-["message"]', '42["message-back"]'),
    ('42["message",{"_placeholder":true,"num":0}]', '42["message-back",{"_placeholder":true,"num":0}]'),
    ('429007199254740991["message-with-ack"]', "439007199254740991[]"),
]


@pytest.mark.parametrize(("packet", "answer"), HARMLESS)
def test_the_odd_but_well_formed_is_harmless(engine: Served, packet: str, answer: str | None) -> None:
    client = engine.client()
    client.send(packet)
    if answer is not None:
        assert client.receive() == answer
    client.send('42["message","still here"]')
    assert client.receive() == '42["message-back","still here"]'


# Within the packet's own list.
DEEP = MAX_DEPTH - 1


@pytest.mark.parametrize(("opener", "closer"), [("[", "]"), ('{"a":', "}")])
def test_a_depth_that_is_refused_ends_the_connection(engine: Served, opener: str, closer: str) -> None:
    client = engine.client()
    nested = opener * DEEP + "1" + closer * DEEP
    client.send(f'42["message",{nested}]')
    assert client.receive() == f'42["message-back",{nested}]'
    client.send(f'42["message",{opener}{nested}{closer}]')
    assert client.receive_all() == []


def test_a_deep_attachment_is_found(engine: Served) -> None:
    client = engine.client()
    nested = "[" * (DEEP - 1) + '{"_placeholder":true,"num":0}' + "]" * (DEEP - 1)
    client.send(f'451-["message",{nested}]')
    client.send(b"x")
    assert client.receive() == f'451-["message-back",{nested}]'
    assert client.receive() == b"x"


def test_events_are_handled_in_order(engine: Served) -> None:
    client = engine.client()
    for number in range(200):
        client.send(f'42{number}["slow",{0.02 if number % 50 == 0 else 0},{number}]')
    assert [client.receive() for _ in range(200)] == [f"43{number}[{number}]" for number in range(200)]


def test_more_events_than_may_wait_are_all_handled(engine: Served) -> None:
    client = engine.client()
    client.send('42["slow",0.3,0]')
    for number in range(2500):
        client.send(f'42["message",{number}]')
    assert [client.receive() for _ in range(2500)] == [f'42["message-back",{number}]' for number in range(2500)]


def test_leaving_one_namespace_leaves_the_other(engine: Served) -> None:
    client = engine.client()
    client.send("40/custom,")
    assert str(client.receive()).startswith("40/custom,")
    client.receive()
    client.send("41/custom,")
    client.send('42["message","here"]')
    assert client.receive() == '42["message-back","here"]'
    client.send("40/custom,")
    assert str(client.receive()).startswith("40/custom,")
    client.receive()
    client.send("41")
    client.send('42/custom,["message","there"]')
    assert client.receive() == '42/custom,["message-back","there"]'


def test_the_server_ends_one_namespace(engine: Served) -> None:
    client = engine.client()
    client.send("40/custom,")
    client.receive()
    client.receive()
    client.send('42/custom,["kick"]')
    assert client.receive() == "41/custom,"
    client.send('42/custom,["message","on its way"]')
    client.send('42["message","here"]')
    assert client.receive() == '42["message-back","here"]'
    client.send('42["kick"]')
    assert client.receive_all() == ["41", "1"]


def test_a_kicked_poller_learns_of_it(engine: Served) -> None:
    poller = engine.polling_client()
    poller.send('42["kick"]')
    assert [poller.receive(), poller.receive()] == ["41", "1"]
    assert poller.is_gone


def test_an_event_just_before_the_end_is_handled(engine: Served) -> None:
    witness, client = engine.client(), engine.client()
    witness.send('427["join","last words"]')
    assert witness.receive() == "437[true]"
    client.send('42["tell","last words","bye"]')
    client.send("1")
    assert witness.receive() == '42["told","bye"]'


def test_a_crash_stays_in_the_log(start: Callable[..., Served]) -> None:
    engine = start()
    client = engine.client()
    client.send('42["crash","secret-payload"]')
    client.send('42["message"]')
    assert client.receive() == '42["message-back"]'
    for packet in ("4abc-secret-payload", "42[secret-payload"):
        bad = engine.client()
        bad.send(packet)
        bad.receive_all()
    log = engine.stop()
    assert "RuntimeError: handler" in log
    assert "secret-payload" not in log
    assert log.count("ERROR") == 1


@pytest.mark.parametrize("size", [999_000, 1_000_001])
def test_large_messages(engine: Served, size: int) -> None:
    client = engine.client()
    message = f'42["message","{"x" * (size - len("""42["message",""]"""))}"]'
    client.send(message)
    answer: Any = client.receive()
    if size > 1_000_000:
        assert answer is None
    else:
        assert json.loads(answer[2:])[1] == json.loads(message[2:])[1]
