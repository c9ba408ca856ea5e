"""What the backend says of sessions, through a real RabbitMQ: told, moved, ended without a word (spec section 11)."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from tests.backend.conftest import IN_PROJECT, LEGACY, ROOM, Site
from tests.support import express
from tests.support.backend import new_session_id
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.returning import Returning
from tests.support.until import until

pytest.importorskip("legacy_v4")
pytestmark = pytest.mark.slow

OWN = {"notifications": True}
ELSEWHERE = {"reason": "You have logged in else where"}
NOT_LOGGED_IN = {"code": "UNAUTHORISED", "message": "You are not logged in"}


def fresh(site: Site, *rooms: dict[str, Any], name: str = "carol", **options: Any) -> tuple[ChatClient, str]:
    """Return a client in these rooms, on a login session of its own, and the session's id."""
    session_id = site.backend.save_session(name)
    client = site._chat(site.served.url, cookie=express.cookie(session_id), **options)
    for room in rooms:
        client.join(room)
    return client, session_id


def is_in(site: Site, client: ChatClient, room: dict[str, Any] = ROOM) -> bool:
    """Whether a client hears what happens in a model; whatever else it hears is passed by."""
    told = site.backend.model_event("probe", room, new_session_id())
    observer = site.joined("alice", OWN)
    site.awaited(observer, "alice")
    return ("probe", (told,)) in client.heard_so_far()


def who(client: ChatClient) -> str | None:
    """Return as whom a client is answered: only its own user may join by that name."""
    for name in ("carol", "dave", "bob"):
        if client.ask("join", {"account": name}).get("event") == "success":
            client.ask("leave", {"account": name})
            client.heard_so_far()
            return name
    client.heard_so_far()
    return None


def barrier(site: Site) -> None:
    """Wait until everything that the backend has said was carried out."""
    site.awaited(site.joined("alice", OWN), "alice")


def test_a_session_is_told_what_is_said_to_it(site: Site) -> None:
    (one, sid), (other, _) = fresh(site, ROOM), fresh(site, ROOM)
    site.backend.tell_sessions("loggedOut", ELSEWHERE, sid)
    assert one.hear() == ("loggedOut", (ELSEWHERE,))
    # It is told, no more.
    assert is_in(site, one)
    assert who(one) == "carol"
    assert {event for event, _ in other.heard_so_far()} == {"probe"}


def test_v4_is_told_by_a_message(site: Site) -> None:
    client, sid = fresh(site, namespace=LEGACY)
    told = {"event": "loggedOut", **ELSEWHERE}
    site.backend.tell_sessions("message", told, sid)
    assert client.hear() == ("message", (told,))


def test_each_socket_of_several_sessions_is_told_once(site: Site) -> None:
    (one, first), (other, second) = fresh(site), fresh(site)
    unknown = new_session_id()
    site.backend.tell_sessions("loggedOut", ELSEWHERE, first, unknown, second, first)
    for client in (one, other):
        assert client.hear() == ("loggedOut", (ELSEWHERE,))
    barrier(site)
    assert one.heard_so_far() == other.heard_so_far() == []


def test_a_session_ends_without_a_word(site: Site) -> None:
    (client, sid), (other, _) = fresh(site, ROOM, OWN), fresh(site, ROOM)
    before = metric(site.served, "repo_notify_sessions_ended_total", cause="backend")
    site.backend.logged_out(new_session_id(), sid)
    barrier(site)
    assert client.heard_so_far() == []
    assert not is_in(site, client)
    refusal = client.ask("join", ROOM)
    assert {key: refusal[key] for key in NOT_LOGGED_IN} == NOT_LOGGED_IN
    assert metric(site.served, "repo_notify_sessions_ended_total", cause="backend") == before + 1
    assert is_in(site, other)


def test_what_is_said_to_a_session_finds_it_after_its_end(site: Site) -> None:
    client, sid = fresh(site, ROOM)
    site.backend.logged_out(sid)
    site.backend.tell_sessions("loggedOut", ELSEWHERE, sid)
    assert client.hear() == ("loggedOut", (ELSEWHERE,))


def test_a_socket_of_two_sessions_that_have_ended_is_told_once(site: Site) -> None:
    client, first = fresh(site, ROOM)
    site.backend.logged_out(first)
    second = site.backend.log_in("carol", client.id)
    until(lambda: client.ask("join", ROOM).get("event") == "success")
    client.heard_so_far()
    site.backend.logged_out(second)
    site.backend.tell_sessions("loggedOut", ELSEWHERE, first, second)
    barrier(site)
    assert client.heard_so_far() == [("loggedOut", (ELSEWHERE,))]


def test_who_was_away_when_its_session_ended_recovers_nothing(site: Site) -> None:
    sid = site.backend.save_session("carol")
    with Returning(site.served.url, express.cookie(sid)) as client:
        client.connect()
        client.join(ROOM)
        client.drop()
        until(lambda: metric(site.served, "repo_notify_lost_clients") > 0)
        site.backend.logged_out(sid)
        barrier(site)
        client.connect()
        assert not client.recovered


@pytest.mark.parametrize("as_text", [False, True])
def test_a_login_that_is_saved_already_binds_the_socket(site: Site, as_text: bool) -> None:
    client = site.connect(None)
    sid = site.backend.save_session("carol", as_text=as_text)
    site.backend.logged_in(sid, client.id)
    until(lambda: client.ask("join", ROOM).get("event") == "success")
    client.heard_so_far()
    site.backend.logged_out(sid)
    barrier(site)
    assert not is_in(site, client)


def test_a_login_is_told_before_it_is_saved(site: Site) -> None:
    client = site.connect(None)
    sid = new_session_id()
    site.backend.logged_in(sid, client.engine_id)
    barrier(site)
    assert client.ask("join", ROOM)["code"] == "UNAUTHORISED"
    site.backend.save_session("carol", sid)
    until(lambda: client.ask("join", ROOM).get("event") == "success")


def test_a_login_that_is_never_saved_binds_nobody(site: Site) -> None:
    client = site.connect(None)
    began, sid = monotonic(), new_session_id()
    site.backend.logged_in(sid, client.id)
    barrier(site)
    until(lambda: monotonic() - began > 4.0)
    site.backend.save_session("carol", sid)
    saved = monotonic()
    until(lambda: monotonic() - saved > 1.0)
    # Nobody looks any more; a second word of the backend's is looked after anew.
    assert client.ask("join", ROOM)["code"] == "UNAUTHORISED"
    site.backend.logged_in(sid, client.id)
    until(lambda: client.ask("join", ROOM).get("event") == "success")


def test_a_session_without_a_user_binds_nobody(site: Site) -> None:
    client = site.connect(None)
    site.backend.logged_in(site.backend.save_session(None), client.id)
    barrier(site)
    assert client.ask("join", ROOM)["code"] == "UNAUTHORISED"


def test_another_user_moves_the_socket_out_of_its_rooms(site: Site) -> None:
    client, _ = fresh(site, ROOM, OWN)
    site.backend.log_in("dave", client.id)
    until(lambda: who(client) == "dave")
    assert not is_in(site, client)
    site.backend.notification("notificationUpserted", "carol", {})
    barrier(site)
    assert client.heard_so_far() == []


def test_another_session_of_the_same_user_moves_the_socket_too(site: Site) -> None:
    client, sid = fresh(site, ROOM)
    newer = site.backend.log_in("carol", client.id)
    until(lambda: not is_in(site, client))
    # A move sends nothing.
    assert client.heard_so_far() == []
    site.backend.logged_out(sid)
    barrier(site)
    client.join(ROOM)
    site.backend.logged_out(newer)
    barrier(site)
    assert not is_in(site, client)


def test_the_session_that_a_socket_has_changes_nothing(site: Site) -> None:
    client = site.connect(None)
    sid = site.backend.save_session("carol")
    site.backend.logged_in(sid, client.id)
    until(lambda: client.ask("join", ROOM).get("event") == "success")
    client.heard_so_far()
    site.backend.save_session("dave", sid)
    site.backend.logged_in(sid, client.id)
    barrier(site)
    assert is_in(site, client)
    assert who(client) == "carol"


def test_the_last_word_of_a_login_counts(site: Site) -> None:
    client = site.connect(None)
    first, second = new_session_id(), new_session_id()
    site.backend.logged_in(first, client.id)
    site.backend.logged_in(second, client.id)
    site.backend.save_session("dave", second)
    site.backend.save_session("carol", first)
    until(lambda: who(client) is not None)
    assert who(client) == "dave"


def test_a_logout_ends_a_login_that_is_still_looked_for(site: Site) -> None:
    client = site.connect(None)
    sid = new_session_id()
    began = monotonic()
    site.backend.logged_in(sid, client.id)
    site.backend.logged_out(sid)
    site.backend.save_session("carol", sid)
    until(lambda: monotonic() - began > 2.5)
    assert who(client) is None


def test_a_login_and_a_logout_as_the_original_tells_them(site: Site) -> None:
    client = site.connect(None)
    sid = site.backend.log_in("carol", client.id)
    until(lambda: client.ask("join", ROOM).get("event") == "success")
    client.heard_so_far()
    site.backend.log_out(sid)
    assert client.hear() == ("loggedOut", (ELSEWHERE,))
    assert not is_in(site, client)


def test_a_session_without_sockets_is_no_trouble(site: Site) -> None:
    client, _ = fresh(site, OWN)
    for _ in range(10):
        site.backend.logged_in(new_session_id(), new_session_id())
        site.backend.logged_out(new_session_id())
        site.backend.tell_sessions("loggedOut", {}, new_session_id())
    assert site.awaited(client) == []


def test_a_project_room_is_left_too(site: Site) -> None:
    client, sid = fresh(site, IN_PROJECT, name="bob")
    site.backend.logged_out(sid)
    site.backend.project_event("newContainer", IN_PROJECT, {})
    barrier(site)
    assert client.heard_so_far() == []
