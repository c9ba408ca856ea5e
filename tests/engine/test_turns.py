"""What is sent within one turn of the loop: everybody hears what is theirs, once and in order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .support import Poller, Served, Socket
from .test_rooms import join, sid_of

ROOMS = ("a", "b", "c")
ROUNDS, STEPS = 60, 40
# More than is sent in one piece, so that a turn's events leave in several.
LARGE = 100_000
Step = list[Any]


class Expected:
    """Who is in which room, and what each is to hear."""

    def __init__(self, sids: list[str]) -> None:
        self.sids = sids
        self.rooms: dict[str, set[int]] = {room: set() for room in ROOMS}
        self.heard: list[list[str]] = [[] for _ in sids]

    def emit(self, event: str, rooms: list[str], skip: int | None, size: int) -> int:
        members = set().union(*(self.rooms[room] for room in rooms)) - {skip}
        for member in members:
            self.heard[member].append(f'42["{event}","{"x" * size}"]')
        return len(members)


def steps(source: random.Random, expected: Expected, number: int) -> tuple[list[Step], list[Any]]:
    """Return what is done in one turn, and what each step answers."""
    found: list[Step] = []
    answers: list[Any] = []
    for at in range(STEPS):
        who = source.randrange(len(expected.sids))
        sid, room = expected.sids[who], source.choice(ROOMS)
        kind = source.choices(["emit", "several", "own", "enter", "leave"], [30, 2, 2, 2, 1])[0]
        if kind in ("emit", "several"):
            rooms = [room] if kind == "emit" else source.sample(ROOMS, 2)
            skip = who if source.random() < 0.1 else None
            size = LARGE if source.random() < 0.01 else source.randrange(200)
            event = f"e{number}.{at}"
            answers.append(expected.emit(event, rooms, skip, size))
            skipped = expected.sids[skip] if skip is not None else None
            found.append(["deliver", {"event": event, "data": "x" * size, "room": rooms, "skip_sid": skipped}])
        elif kind == "own":
            expected.heard[who].append(f'42["own{number}.{at}",1]')
            answers.append(1)
            found.append(["deliver", {"event": f"own{number}.{at}", "data": 1, "room": sid}])
        else:
            members = expected.rooms[room]
            (members.add if kind == "enter" else members.discard)(who)
            answers.append(None)
            found.append([f"{kind}_room", {"sid": sid, "namespace": "/", "room": room}])
    return found, answers


@pytest.mark.parametrize("seed", range(3))
def test_each_hears_what_is_its_own_in_order(engine: Served, seed: int) -> None:
    clients: list[Socket | Poller] = [engine.client() for _ in range(5)] + [engine.polling_client()]
    expected = Expected([sid_of(engine, client) for client in clients])
    source = random.Random(seed)
    for number in range(ROUNDS):
        found, answers = steps(source, expected, number)
        assert engine.call("/turn", steps=found) == answers, f"round {number} of seed {seed}"
        for client, heard in zip(clients, expected.heard, strict=True):
            for packet in heard:
                assert client.receive() == packet, f"round {number} of seed {seed}"
            heard.clear()
    engine.call("/turn", steps=[["close_room", {"room": room, "namespace": "/"}] for room in ROOMS])
    for client in clients:
        client.send('42["message"]')
        assert client.receive() == '42["message-back"]'


def test_who_is_closed_between_two_events_of_a_turn_hears_the_first(engine: Served) -> None:
    going, staying = engine.client(), engine.client()
    for client in (going, staying):
        join(client, "closing")
    event: dict[str, Any] = {"event": "x", "room": "closing"}
    found: list[Step] = [["deliver", {**event, "data": number}] for number in range(3)]
    end: Step = ["disconnect", {"sid": sid_of(engine, going)}]
    assert engine.call("/turn", steps=[*found, end, ["deliver", {**event, "data": 3}]]) == [2, 2, 2, None, 1]
    assert [going.receive() for _ in range(4)] == ['42["x",0]', '42["x",1]', '42["x",2]', "41"]
    assert [staying.receive() for _ in range(4)] == [f'42["x",{number}]' for number in range(4)]


def test_who_is_lost_during_a_turn_costs_the_others_nothing(engine: Served) -> None:
    lost, staying = engine.client(), engine.client()
    for client in (lost, staying):
        join(client, "losing")
    lost.close()
    found: list[Step] = [["deliver", {"event": "x", "data": number, "room": "losing"}] for number in range(50)]
    engine.call("/turn", steps=found)
    assert [staying.receive() for _ in range(50)] == [f'42["x",{number}]' for number in range(50)]
