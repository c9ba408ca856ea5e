from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pytest

from tests.support.until import until

from .support import Poller, Served, Socket


def sid_of(engine: Served, client: Socket | Poller) -> str:
    client.send('421["who-am-i"]')
    answer = str(client.receive())
    return str(json.loads(answer[answer.index("[") :])[0])


def join(client: Socket | Poller, *rooms: str) -> None:
    for room in rooms:
        client.send(f'429["join","{room}"]')
        assert client.receive() == "439[true]"


def test_one_delivery_however_many_rooms(engine: Served) -> None:
    both, one, none, poller = engine.client(), engine.client(), engine.client(), engine.polling_client()
    join(both, "r1", "r2")
    join(one, "r2")
    join(poller, "r1", "r2")
    assert engine.call("/emit", event="x", data={"a": 1}, room=["r1", "r2", "empty"]) == 3
    assert [client.receive() for client in (both, one, poller)] == ['42["x",{"a":1}]'] * 3
    for client in (both, one, none, poller):
        client.send('42["message"]')
        assert client.receive() == '42["message-back"]'


def test_a_binary_broadcast_reaches_every_transport(engine: Served) -> None:
    direct, poller = engine.client(), engine.polling_client()
    join(direct, "binary")
    join(poller, "binary")
    assert engine.call("/emit", event="x", data="abc", room="binary", binary=True) == 2
    text = '451-["x",{"_placeholder":true,"num":0}]'
    assert [direct.receive(), direct.receive()] == [text, b"abc"]
    assert [poller.receive(), poller.receive()] == [text, "bYWJj"]


def test_the_skipped_gets_nothing(engine: Served) -> None:
    clients: list[Socket | Poller] = [engine.client(), engine.client(), engine.polling_client()]
    for client in clients:
        join(client, "skip")
    sids = [sid_of(engine, client) for client in clients]
    assert engine.call("/emit", event="x", data=1, room="skip", skip_sid=sids[0]) == 2
    assert engine.call("/emit", event="y", data=1, room="skip", skip_sid=sids[1:]) == 1
    assert engine.call("/emit", event="z", data=1, room="skip", skip_sid=engine.call("/whose", sid=sids[0])) == 2
    assert clients[0].receive() == '42["y",1]'
    assert [clients[1].receive(), clients[1].receive()] == ['42["x",1]', '42["z",1]']
    assert [clients[2].receive(), clients[2].receive()] == ['42["x",1]', '42["z",1]']


# What is emitted, and what arrives; the event is "x".
ARGUMENTS: list[tuple[Any, str]] = [
    (None, '42["x"]'), (1, '42["x",1]'), ([1, 2], '42["x",[1,2]]'), ("", '42["x",""]'), ({}, '42["x",{}]'),
]


@pytest.mark.parametrize(("data", "packet"), ARGUMENTS)
def test_arguments(engine: Served, data: Any, packet: str) -> None:
    client = engine.client()
    assert engine.call("/emit", event="x", data=data, room=sid_of(engine, client)) == 1
    assert client.receive() == packet


def test_nobody_is_reached_by_no_room(engine: Served) -> None:
    client = engine.client()
    assert engine.call("/emit", event="x", data=1, room=[]) == 0
    assert engine.call("/emit", event="x", data=1, room="nobody") == 0
    assert engine.call("/emit", event="x", data=1, room="nobody", namespace="/nowhere") == 0
    client.send('42["message"]')
    assert client.receive() == '42["message-back"]'


def test_an_id_resolves_to_its_connection(engine: Served) -> None:
    client = engine.client()
    client.send("40/custom,")
    answer = str(client.receive())
    client.receive()
    custom = json.loads(answer[answer.index("{") :])["sid"]
    connection = engine.call("/whose", sid=sid_of(engine, client))
    assert engine.call("/whose", sid=custom) == connection
    assert engine.call("/whose", sid=connection) == connection
    assert engine.call("/whose", sid="unknown") is None


def test_leaving_and_closing_rooms(engine: Served) -> None:
    client, other = engine.client(), engine.client()
    join(client, "kept", "left", "closed")
    client.send('423["leave","left"]')
    client.receive()
    client.send('423["close-room","closed"]')
    client.receive()
    for room, reached in (("kept", 1), ("left", 0), ("closed", 0)):
        assert engine.call("/emit", event="x", data=1, room=room) == reached
    client.send('425["rooms"]')
    assert client.receive() == '42["x",1]'
    rooms = json.loads(str(client.receive())[3:])[0]
    assert sorted(rooms) == sorted(["kept", sid_of(engine, client)])
    other.send(f'425["join","{sid_of(engine, client)}"]')
    other.send('42["message"]')
    assert other.receive() == '42["message-back"]'


def test_a_failing_recipient_does_not_stop_the_others(engine: Served) -> None:
    clients = [engine.client() for _ in range(3)]
    for client in clients:
        join(client, "failing")
    clients[0].tcp.close()
    reached = engine.call("/emit", event="x", data=1, room="failing")
    assert reached in {2, 3}
    assert [client.receive() for client in clients[1:]] == ['42["x",1]'] * 2


def test_who_vanishes_during_a_fan_out_costs_nobody_an_event(engine: Served) -> None:
    clients = [engine.client() for _ in range(12)]
    for client in clients:
        join(client, "crowd")
    staying, leaving = clients[::3], [client for index, client in enumerate(clients) if index % 3]
    for number, client in enumerate(leaving):
        client.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.tcp.close()
        engine.call("/emit", event="tick", data=number, room="crowd")
    for client in staying:
        assert [client.receive() for _ in leaving] == [f'42["tick",{number}]' for number in range(len(leaving))]


def test_who_enters_leaves_or_is_skipped_between_two_events(engine: Served) -> None:
    first, second, third = (engine.client() for _ in range(3))
    join(first, "changing")
    join(second, "changing")
    skipped = sid_of(engine, second)

    def emit(number: int, *listeners: Socket, **options: str) -> None:
        assert engine.call("/emit", event="tick", data=number, room="changing", **options) == len(listeners)
        assert [client.receive() for client in listeners] == [f'42["tick",{number}]'] * len(listeners)

    emit(1, first, second)
    join(third, "changing")
    emit(2, first, second, third)
    emit(3, first, third, skip_sid=skipped)
    emit(4, first, second, third)
    first.send('429["leave","changing"]')
    assert first.receive() == "439[]"
    emit(5, second, third)
    second.close()
    until(lambda: engine.call("/emit", event="last", data=6, room="changing") == 1)
    assert str(third.receive()) == '42["last",6]'
