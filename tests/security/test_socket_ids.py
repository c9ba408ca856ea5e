"""What a socket id is worth: naming somebody else's socket keeps nothing from it."""

from __future__ import annotations

from contextlib import closing

import pytest

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.support.people import People
from tests.support.served import User

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
HEARD = [("containerUpdateTicket", ({**ROOM, "data": {}},))]


@pytest.mark.parametrize("user", ["dave", None])
@pytest.mark.parametrize("which", ["id", "engine_id"])
def test_a_request_does_not_keep_an_event_from_another_users_socket(
    people: People, user: str | None, which: str
) -> None:
    publisher = people.user(user) if user else User(people.served)
    with closing(people.connect("carol")) as client:
        client.join(ROOM)
        publisher.publish("TicketUpdated", getattr(client, which), **ROOM, kind="container", data={})
        assert client.heard_so_far() == HEARD


@pytest.mark.parametrize("which", ["id", "engine_id"])
def test_a_request_of_the_sockets_own_user_and_the_hosts_own_word_do(people: People, which: str) -> None:
    with closing(people.connect("carol")) as client:
        client.join(ROOM)
        mine = getattr(client, which)
        people.user("carol").publish("TicketUpdated", mine, **ROOM, kind="container", data={})
        people.user("dave").publish("TicketUpdated", **ROOM, kind="container", data={}, emitter=mine)
        assert client.heard_so_far() == []
