"""Clients that do not take what is sent to them: order is kept, the outbox has a bound, nobody else waits."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from itertools import count

import pytest

from .support import Served, Socket

pytestmark = pytest.mark.slow

Start = Callable[..., Served]

ROOM = "busy"
BIG = "x" * 50_000
OUTBOX = 200_000
# Far more than the kernel keeps for a socket on both of its ends.
ENOUGH = 400
LOOK = 10
KINDS = ("gevent", "gevent-websocket", "threading", "gevent, TLS")


def member(served: Served) -> Socket:
    client = served.client()
    client.send(f'420["join","{ROOM}"]')
    assert client.receive() == "430[true]"
    return client


def connection_of(served: Served, client: Socket) -> str:
    client.send('421["who-am-i"]')
    answer = client.receive()
    assert isinstance(answer, str)
    (sid,) = json.loads(answer.removeprefix("431"))
    return str(served.call("/whose", sid=sid))


def emit(served: Served, number: int, data: str = BIG, **more: str) -> None:
    served.call("/emit", event="tick", data=[number, data], namespace="/", room=ROOM, **more)


def number_of(frame: object) -> int:
    assert isinstance(frame, str)
    assert frame.startswith('42["tick",[')
    return int(frame[11 : frame.index(",", 11)])


@pytest.mark.parametrize("kind", KINDS)
def test_who_takes_nothing_is_disconnected_with_the_reason_and_the_others_miss_nothing(start: Start, kind: str) -> None:
    served = start(kind, max_outbox=OUTBOX)
    slow, reader = member(served), member(served)
    slow.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection = connection_of(served, slow)
    heard = 0
    for number in range(ENOUGH):
        emit(served, number)
        assert number_of(reader.receive()) == number
        heard += 1
        if heard % LOOK == 0 and served.call("/state")["connections"] == 1:
            break
    assert heard < ENOUGH
    assert served.call("/gone", sid=connection)[-1] == ["close", connection, "slow client"]
    emit(served, heard)
    assert number_of(reader.receive()) == heard


def test_who_takes_nothing_for_too_long_is_disconnected(start: Start) -> None:
    served = start(max_outbox=100_000_000, max_outbox_age=0.5)
    slow = member(served)
    slow.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for number in range(ENOUGH):
        emit(served, number)
    # Its end is awaited from outside; each look asks the server, which has other work meanwhile.
    assert any(served.call("/state")["connections"] == 0 for _ in count())


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_reads_late_gets_everything_in_order(start: Start, kind: str) -> None:
    served = start(kind, max_outbox=100_000_000)
    late = member(served)
    late.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131_072)
    total = 200
    for number in range(total):
        # Small ones between the big: they must not overtake what waits.
        emit(served, number, BIG if number % 3 else "small")
    assert [number_of(late.receive()) for _ in range(total)] == list(range(total))


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_late_and_who_is_left_out_change_nothing_for_the_others(start: Start, kind: str) -> None:
    served = start(kind, max_outbox=100_000_000)
    late, left_out, reader = (member(served) for _ in range(3))
    late.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131_072)
    emitter = connection_of(served, left_out)
    total = 200
    for number in range(total):
        emit(served, number, skip_sid=emitter)
        assert number_of(reader.receive()) == number
    emit(served, total)
    assert number_of(left_out.receive()) == number_of(reader.receive()) == total
    assert [number_of(late.receive()) for _ in range(total + 1)] == list(range(total + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_many_events_of_one_turn_arrive_in_order_and_whole(start: Start, kind: str) -> None:
    served = start(kind)
    clients = [member(served) for _ in range(3)]
    for number in range(200):
        clients[0].send(f'42["tell","{ROOM}",{number}]')
    for client in clients:
        assert [client.receive() for _ in range(200)] == [f'42["told",{number}]' for number in range(200)]
