"""Clients that do not take what is sent to them: order is kept, the outbox has a bound, nobody else waits."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from repo_notify.engine.wire.frames import PONG, TEXT
from tests.support.until import until

from .support import Poller, Served, Socket

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


def emit(served: Served, number: int, data: str = BIG, **more: Any) -> None:
    served.call("/emit", event="tick", data=[number, data], **{"namespace": "/", "room": ROOM, **more})


def number_of(frame: object) -> int:
    assert isinstance(frame, str)
    assert frame.startswith('42["tick",[')
    return int(frame[11 : frame.index(",", 11)])


@pytest.mark.parametrize("kind", KINDS)
def test_who_takes_nothing_is_disconnected_with_the_reason_and_the_others_miss_nothing(start: Start, kind: str) -> None:
    served = start(kind, outbox={"max_bytes": OUTBOX})
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


@pytest.mark.parametrize("kind", KINDS)
def test_who_takes_nothing_for_too_long_is_disconnected(start: Start, kind: str) -> None:
    served = start(kind, outbox={"max_bytes": 100_000_000, "max_seconds": 0.5})
    slow = member(served)
    slow.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for number in range(ENOUGH):
        emit(served, number)
    # Its end is awaited from outside; each look asks the server, which has other work meanwhile.
    assert any(served.call("/state")["connections"] == 0 for _ in count())


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_reads_late_gets_everything_in_order(start: Start, kind: str) -> None:
    served = start(kind, outbox={"max_bytes": 100_000_000})
    late = member(served)
    late.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131_072)
    total = 200
    for number in range(total):
        # Small ones between the big: they must not overtake what waits.
        emit(served, number, BIG if number % 3 else "small")
    assert [number_of(late.receive()) for _ in range(total)] == list(range(total))


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_late_and_who_is_left_out_change_nothing_for_the_others(start: Start, kind: str) -> None:
    served = start(kind, outbox={"max_bytes": 100_000_000})
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


def stalled(served: Served, room: str = ROOM) -> Socket:
    """A member that reads nothing, and for whom the kernel keeps little."""
    client = served.client()
    client.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131_072)
    client.send(f'420["join","{room}"]')
    assert client.receive() == "430[true]"
    return client


def polling_member(served: Served) -> Poller:
    client = served.polling_client()
    client.send(f'420["join","{ROOM}"]')
    assert client.receive() == "430[true]"
    return client


@pytest.mark.parametrize("kind", ["gevent", "threading"])
def test_a_burst_that_was_accepted_reaches_who_polls_without_pause(start: Start, kind: str) -> None:
    served = start(kind)
    client = polling_member(served)
    total = 90
    # In all more than the default limit, as a letter beyond ASCII has six bytes on the wire.
    emit(served, 0, "ü" * 20_000, times=total)
    assert [number_of(client.receive()) for _ in range(total)] == [0] * total
    assert served.call("/state")["connections"] == 1


@pytest.mark.parametrize("kind", ["gevent", "gevent-websocket", "threading"])
def test_who_takes_a_megabyte_a_second_gets_ten_that_were_sent_at_once(start: Start, kind: str) -> None:
    served = start(kind)
    client = member(served)
    client.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    total, size = 2_000, 5_000
    for number in range(total):
        emit(served, number, "x" * size)
    began = monotonic()
    for number in range(total):
        sleep(max(0.0, began + number * size / 1e6 - monotonic()))  # it is this slow
        assert number_of(client.receive()) == number
    assert served.call("/state")["slow"] == {"bytes": 0, "seconds": 0, "total": 0}


def test_who_takes_too_little_for_too_long_is_disconnected(start: Start) -> None:
    served = start(outbox={"max_bytes": 1_000_000_000, "max_seconds": 1})
    client = stalled(served)
    emit(served, 0, times=1_000)
    ended = monotonic() + 8
    # At this pace the whole would take ten seconds, and the socket is writable again and again.
    while monotonic() < ended and served.call("/state")["connections"]:
        client.tcp.recv(250_000)
        sleep(0.05)
    assert served.call("/state")["slow"]["seconds"] == 1


@pytest.mark.parametrize("kind", KINDS[:3])
def test_who_does_not_poll_what_waits_is_disconnected(start: Start, kind: str) -> None:
    served = start(kind, outbox={"max_seconds": 0.5})
    client = polling_member(served)
    until(lambda: served.call("/state")["connections"] == 1)
    emit(served, 0, "small")
    until(lambda: served.call("/state")["connections"] == 0)
    assert served.call("/state")["slow"]["seconds"] == 1
    assert served.call("/state")["waiting"] == 0
    assert client.is_gone


@pytest.mark.parametrize("kind", ["gevent", "threading"])
def test_an_idle_poller_for_whom_nothing_waits_is_not_slow(start: Start, kind: str) -> None:
    served = start(kind, outbox={"max_bytes": 100_000_000, "max_seconds": 0.2})
    polling_member(served)
    slow = stalled(served, "another")
    emit(served, 0, room="another", times=ENOUGH)
    # The sweep that finds the one has looked at the other.
    until(lambda: served.call("/state")["slow"]["seconds"] == 1)
    # On threads it is counted a moment before it is gone.
    until(lambda: served.call("/state")["connections"] == 1)
    assert served.call("/state")["slow"]["seconds"] == 1
    slow.close()


@pytest.mark.parametrize("kind", ["gevent", "threading"])
def test_where_too_much_waits_for_all_those_with_the_most_are_disconnected_first(start: Start, kind: str) -> None:
    served = start(kind, outbox={"max_bytes": 100_000_000, "max_total": 32_000_000})
    most, some, reader = stalled(served, "most"), stalled(served, "some"), member(served)
    worst = connection_of(served, most)
    emit(served, 0, BIG + "some", room="some", times=300)
    emit(served, 0, BIG + "most", room="most", times=300)
    assert served.call("/state")["connections"] == 3
    # What waits for both counts once.
    emit(served, 0, BIG + "both", room=["most", "some"], times=100)
    assert served.call("/state")["connections"] == 3
    emit(served, 0, BIG + "most", room="most", times=200)
    until(lambda: served.call("/state")["slow"]["total"] == 1)
    assert served.call("/gone", sid=worst)[-1][-1] == "slow client"
    emit(served, 1)
    assert number_of(reader.receive()) == 1
    assert served.call("/state")["connections"] == 2
    most.close()
    some.close()


def memory(served: Served) -> int:
    """The server's resident memory, in bytes."""
    return int(Path(f"/proc/{served.pid}/statm").read_text().split()[1]) * 4096


def ping_frame(payload: bytes) -> bytes:
    """A client's ping, masked with zeros (RFC 6455 section 5.2)."""
    return struct.pack("!BB4x", 0x89, 0x80 | len(payload)) + payload


@pytest.mark.parametrize("kind", KINDS[:3])
def test_pings_of_who_reads_no_pongs_fill_no_memory(start: Start, kind: str) -> None:
    # A busy machine takes long for so many pings (32 MB), and who stalls for too long is cut off.
    served = start(kind, outbox={"max_bytes": 1_000_000_000, "max_seconds": 600})
    client = stalled(served)
    emit(served, 0, times=ENOUGH)
    before = memory(served)
    client.tcp.settimeout(1)
    pings = ping_frame(b"x" * 100) * 1_000
    sent = 0
    try:
        while sent < 300:
            client.tcp.sendall(pings)
            sent += 1
    except TimeoutError:
        pass  # the server reads no more
    served.call("/state")
    assert memory(served) - before < 16_000_000


def test_who_does_not_take_its_pongs_gets_the_last(start: Start) -> None:
    served = start(outbox={"max_bytes": 1_000_000_000})
    client = stalled(served)
    emit(served, 0, times=ENOUGH)
    client.tcp.sendall(b"".join(ping_frame(b"%06d" % number) for number in range(10_000)))
    # Behind the pings, so they have been read when it has left its room.
    client.send(f'42["leave","{ROOM}"]')
    until(lambda: served.call("/state")["rooms"] == 0)
    left, pongs = ENOUGH, list[bytes]()
    while left or not pongs:
        opcode, payload = client.receive_frame()
        left -= opcode == TEXT
        pongs += [payload] if opcode == PONG else []
    assert pongs[-1] == b"009999"
    assert len(pongs) < 1_000


def test_what_is_sent_to_a_member_before_its_connect_is_answered_is_bounded(start: Start) -> None:
    served = start(outbox={"max_bytes": OUTBOX}, connect_timeout=60)
    client = served.websocket()
    client.receive()
    client.send('40{"linger":5}')
    until(lambda: bool(served.call("/state")["namespaces"]))
    for number in range(10):
        served.call("/emit", event="tick", data=[number, BIG], namespace="/")
    until(lambda: served.call("/state")["slow"]["bytes"] == 1)
    assert served.call("/state")["connections"] == 0
