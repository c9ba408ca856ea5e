"""The members of a room, walked piece by piece while others come and go."""

from __future__ import annotations

import logging
import random
from types import SimpleNamespace
from typing import Any

import pytest

from repo_notify.engine.socket_io.manager import PIECE, RoomManager
from repo_notify.engine.socket_io.members import Member

ROOM, NAMESPACE = "room", "/"


class Crowd:
    """A room whose members come and go; they have no connection but its id."""

    def __init__(self, number: int) -> None:
        self.manager = RoomManager(logging.getLogger(__name__))
        self.members: dict[str, Member] = {}
        self._last = 0
        for _ in range(number):
            self.come()

    def come(self) -> None:
        self._last += 1
        connection: Any = SimpleNamespace(sid=f"c{self._last}")
        member = self.manager.add(f"m{self._last}", NAMESPACE, connection)
        member.enter(ROOM)
        self.members[member.sid] = member

    def go(self, sid: str) -> None:
        assert self.members.pop(sid).leave(ROOM)

    def walk(self) -> Any:
        return self.manager.members_of(NAMESPACE, ROOM)


def test_everybody_comes_once_where_nobody_comes_or_goes() -> None:
    crowd = Crowd(3 * PIECE + 1)
    assert sorted(member.sid for member in crowd.walk()) == sorted(crowd.members)


@pytest.mark.parametrize("seed", range(20))
def test_who_is_there_all_the_while_comes(seed: int) -> None:
    source = random.Random(seed)
    crowd = Crowd(source.randrange(1, 4 * PIECE))
    staying = set(crowd.members)
    seen = set()
    going = source.choice([0.1, 0.5, 0.9])
    for member in crowd.walk():
        seen.add(member.sid)
        for _ in range(source.randrange(3)):
            if crowd.members and source.random() < going:
                sid = source.choice(list(crowd.members))
                crowd.go(sid)
                staying.discard(sid)
            else:
                crowd.come()
    assert staying <= seen
    assert {member.sid for member in crowd.walk()} == set(crowd.members)


def test_a_room_ends_with_its_last_member() -> None:
    crowd = Crowd(2)
    walk = crowd.walk()
    assert next(walk).sid == "m2"
    for sid in list(crowd.members):
        crowd.go(sid)
    # It was taken before it went.
    assert [member.sid for member in walk] == ["m1"]
    assert not crowd.manager.has_members(NAMESPACE, ROOM)
    assert list(crowd.walk()) == []
