from __future__ import annotations

import json

import pytest

from .support import Served
from .test_polling import in_background, wait_for_poll


def test_upgrades_with_a_probe(engine: Served) -> None:
    poller = engine.polling_client()
    poll = in_background(poller.get)
    wait_for_poll(engine, poller)
    client = engine.websocket(sid=poller.sid)
    client.send("2probe")
    assert client.receive() == "3probe"
    assert poll().text == "6"
    client.send("5")
    client.send('42["message",1]')
    assert client.receive() == '42["message-back",1]'
    assert poller.get().status == 400
    assert poller.post("40").status == 400
    assert engine.call("/state")["connections"] >= 1


def test_a_poll_during_the_upgrade_ends_soon(engine: Served) -> None:
    poller = engine.poller()
    client = engine.websocket(sid=poller.sid)
    client.send("2probe")
    assert client.receive() == "3probe"
    assert poller.get().text == "6"
    assert poller.get().text == "6"


def test_nothing_is_lost_or_reordered_during_the_upgrade(engine: Served) -> None:
    poller = engine.polling_client()
    poller.send('42["join","upgrading"]')
    got: list[object] = []
    emit = [lambda number=number: engine.call("/emit", event="n", data=number, room="upgrading") for number in range(6)]
    emit[0]()
    client = engine.websocket(sid=poller.sid)
    emit[1]()
    client.send("2probe")
    assert client.receive() == "3probe"
    emit[2]()
    got += [packet for packet in poller.get().text.split("\x1e") if packet not in {"6", "2"}]
    emit[3]()
    client.send("5")
    emit[4]()
    emit[5]()
    while len(got) < 6:
        got.append(client.receive())
    assert [json.loads(str(packet)[2:])[1] for packet in got] == list(range(6))


@pytest.mark.parametrize("packets", [["2"], ["4probe"], ["2probe", "4x"], ["2probe", "2probe"], ["abc"], [b"x"], []])
def test_a_failed_upgrade_leaves_the_polling_session(engine: Served, packets: list[str | bytes]) -> None:
    poller = engine.polling_client()
    client = engine.websocket(sid=poller.sid)
    for packet in packets:
        client.send(packet)
    if not packets:
        client.close()
    client.receive_all()
    poller.send('42["message",1]')
    while (packet := poller.receive()) == "6":
        pass
    assert packet == '42["message-back",1]'


def test_a_probe_that_never_ends_is_given_up(hasty: Served) -> None:
    poller = hasty.poller()
    client = hasty.websocket(sid=poller.sid)
    client.send("2probe")
    assert client.receive() == "3probe"
    assert client.receive() is None
    again = hasty.websocket(sid=hasty.poller().sid)
    assert again.receive() is None


def test_a_session_upgrades_once(engine: Served) -> None:
    poller = engine.poller()
    client = engine.websocket(sid=poller.sid)
    client.send("2probe")
    assert client.receive() == "3probe"
    # While the upgrade is under way, and when it is done.
    assert engine.websocket(sid=poller.sid).receive() is None
    client.send("5")
    client.send("40")
    if (answer := client.receive()) == "6":
        answer = client.receive()
    assert str(answer).startswith("40{")
    assert client.receive() == '42["auth",{}]'
    for _ in range(2):
        second = engine.websocket(sid=poller.sid)
        assert second.receive() is None
        client.send('42["message",1]')
        assert client.receive() == '42["message-back",1]'


def test_a_session_that_began_as_a_websocket_takes_no_second_one(engine: Served) -> None:
    client = engine.websocket()
    sid = json.loads(str(client.receive())[1:])["sid"]
    assert engine.websocket(sid=sid).receive() is None
    client.send("40")
    assert str(client.receive()).startswith("40{")


def test_a_websocket_session_is_not_polled(engine: Served) -> None:
    client = engine.websocket()
    sid = json.loads(str(client.receive())[1:])["sid"]
    answer = engine.request("GET", EIO="4", transport="polling", sid=sid)
    assert (answer.status, answer.json["code"]) == (400, 3)
    client.send("40")
    assert str(client.receive()).startswith("40{")
