"""The load of the recovery scenario: a client that speaks as socket.io-client 4.6 does, and what is counted of it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from benchmarks.figures import COMPLETENESS, MILLISECONDS
from benchmarks.load.audience import LoadError
from benchmarks.load.frames import PING, PONG, TEXT, event_frame, masked, take_frames
from benchmarks.load.ledger import Ledger
from benchmarks.load.recovering import TICKET, Recovering, Ticket
from benchmarks.scenarios.recovery import members, turns

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
OPEN = b'0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
JOINS = (event_frame("join", {"model": "large"}), event_frame("join", {"model": "small"}))
JOINED = ("message", {"event": "success", "data": {"action": "join", "data": {}}})


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """As a server sends it."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 1 << 16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + payload


def event(*arguments: Any) -> bytes:
    return frame(b"42" + json.dumps(arguments).encode())


def ticket(number: int, *more: str) -> bytes:
    return event(TICKET, {"model": "large", "data": {"_id": str(number), "at": f"{number:019d}"}}, *more)


def connected(client: Recovering, pid: str | None, early: bytes = b"") -> tuple[bytes, bytes, list[Ticket]]:
    """The client's CONNECT on a new connection, what it sends when that is answered, and what it hears by then."""
    client.begin()
    connect, _ = client.receive(SWITCHING + frame(OPEN))
    answer = {"sid": "y"} | ({} if pid is None else {"pid": pid})
    reply, heard = client.receive(early + frame(b"40" + json.dumps(answer).encode()))
    return connect, reply, heard


@pytest.fixture
def client() -> Recovering:
    return Recovering(b"GET", JOINS)


def test_a_new_client_connects_without_a_session_and_joins_its_rooms(client: Recovering) -> None:
    assert client.begin() == b"GET"
    assert connected(client, "secret") == (masked(b"40"), b"".join(JOINS), [])
    entered = []
    for _ in JOINS:
        client.receive(event(*JOINED))
        entered.append(client.entered)
    assert entered == [False, True]
    assert (client.connects, client.recoveries) == (1, 0)


def test_an_offset_behind_the_arguments_is_sent_when_it_comes_back(client: Recovering) -> None:
    connected(client, "secret")
    assert client.receive(ticket(3, "aaa") + ticket(4, "bbb")) == (b"", [Ticket(3, 3), Ticket(4, 4)])
    connect, reply, _ = connected(client, "secret")
    assert connect == masked(b'40{"pid":"secret","offset":"bbb"}')
    assert reply == b""
    assert client.entered
    assert (client.connects, client.recoveries) == (2, 1)


def test_an_event_with_the_position_is_an_offset_too(client: Recovering) -> None:
    connected(client, "secret")
    client.receive(event("position", "p1") + ticket(3) + event("position", "p2") + ticket(4))
    assert connected(client, "secret")[0] == masked(b'40{"pid":"secret","offset":"p2"}')


def test_a_client_that_has_heard_nothing_sends_its_pid_alone(client: Recovering) -> None:
    connected(client, "secret")
    assert connected(client, "secret")[0] == masked(b'40{"pid":"secret"}')


def test_a_client_that_is_not_recovered_joins_again(client: Recovering) -> None:
    connected(client, "secret")
    client.receive(event(*JOINED) * 2)
    _, reply, _ = connected(client, "another")
    assert reply == b"".join(JOINS)
    assert not client.entered
    assert client.recoveries == 0


def test_without_recovery_nothing_is_an_offset(client: Recovering) -> None:
    connected(client, None)
    client.receive(ticket(3, "text"))
    connect, reply, _ = connected(client, None)
    assert (connect, reply) == (masked(b"40"), b"".join(JOINS))


def test_what_is_replayed_before_the_connect_is_answered_is_heard_with_it(client: Recovering) -> None:
    connected(client, "secret")
    _, _, heard = connected(client, "secret", early=ticket(5, "ccc"))
    assert heard == [Ticket(5, 5)]
    assert connected(client, "secret")[0] == masked(b'40{"pid":"secret","offset":"ccc"}')


def test_bytes_may_come_one_by_one(client: Recovering) -> None:
    client.begin()
    stream = SWITCHING + frame(OPEN) + frame(b'40{"sid":"y","pid":"p"}') + event("long", "x" * 200) + ticket(7)
    found = [client.receive(bytes([byte])) for byte in stream]
    assert b"".join(sent for sent, _ in found) == masked(b"40") + b"".join(JOINS)
    assert [heard for _, tickets in found for heard in tickets] == [Ticket(7, 7)]


def test_pings_of_both_layers_are_answered(client: Recovering) -> None:
    connected(client, "secret")
    assert client.receive(frame(b"2") + frame(b"x", PING)) == (masked(b"3") + masked(b"x", PONG), [])


@pytest.mark.parametrize("packet", [b"41", b'44{"message":"no"}', b'42["error",{"code":"ROOM_NOT_FOUND"}]'])
def test_a_refusal_ends_the_run(client: Recovering, packet: bytes) -> None:
    connected(client, "secret")
    with pytest.raises(LoadError, match="refused"):
        client.receive(frame(packet))


def test_a_refused_handshake_ends_the_run(client: Recovering) -> None:
    client.begin()
    with pytest.raises(LoadError, match="403"):
        client.receive(b"HTTP/1.1 403 Forbidden\r\n\r\n")


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_servers_frames_are_taken_apart(size: int) -> None:
    payload = b"x" * size
    received = bytearray(frame(payload) + b"\x81")
    assert take_frames(received) == [(TEXT, payload)]
    assert received == b"\x81"


def test_a_ledger_counts_each_event_once_and_times_the_replay() -> None:
    ledger = Ledger([0, 2, 4, 6], bytearray(8))
    ledger.hear(0, 0)
    ledger.dropped()
    # Events 2 and 4 were due while it was away; 6 is not yet.
    ledger.back(5_000, 0, 1_000)
    ledger.hear(2, 6_000)
    ledger.hear(2, 6_500)
    ledger.hear(4, 7_000)
    ledger.hear(6, 8_000)
    ledger.dropped()
    assert (ledger.delivered, ledger.repeats) == (4, 1)
    assert ledger.replays == [pytest.approx(2e-6)]


def test_what_does_not_come_before_the_next_drop_never_came_in_time() -> None:
    ledger = Ledger([0, 1, 2], bytearray(3))
    ledger.back(1_000, 0, 1_000)
    ledger.hear(0, 1_500)
    ledger.dropped()
    ledger.back(2_000, 0, 1_000)
    ledger.hear(1, 2_500)
    ledger.hear(2, 2_600)
    ledger.dropped()
    assert ledger.replays == [math.inf, pytest.approx(6e-7)]
    assert (ledger.delivered, ledger.repeats) == (3, 0)


def test_half_of_the_clients_are_in_small_rooms_and_all_in_the_large_one() -> None:
    found = members(1_000)
    assert found[0] == (0, 1)
    assert found[499] == (0, 50)
    assert found[500] == found[999] == (0,)
    assert all(sum(room in rooms for rooms in found) == 10 for room in range(1, 51))
    assert turns(4) == [0, 1, 0, 2, 0, 3]


def test_all_but_one_is_not_everything() -> None:
    assert COMPLETENESS.write(1.0) == "100.00 %"
    assert COMPLETENESS.write(1 - 1e-9) == "99.99 %"
    assert MILLISECONDS.write(math.inf) == "never"
