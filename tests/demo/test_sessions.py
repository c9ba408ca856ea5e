"""Logging in and out: cookies, what ends which session, what outlives what."""

from __future__ import annotations

import pytest
from pymongo import MongoClient

from tests.demo.support import COOKIE, Client, Document, Listen, hear_next, hear_until, join

SITE = "https://app.example.org"
ELSEWHERE = {"reason": "You have logged in else where"}


def logged_in(client: Client) -> bool:
    return client.call("GET", "/v5/login").status == 200


@pytest.mark.parametrize(
    ("path", "body", "out"),
    [
        ("/v5/login", {"user": "carol", "password": "demo"}, "/v5/logout"),
        ("/login", {"username": "carol", "password": "demo"}, "/logout"),
        ("/login.json", {"username": "carol", "password": "demo"}, "/logout.json"),
    ],
)
def test_in_and_out(anonymous: Client, mongo: MongoClient[Document], path: str, body: object, out: str) -> None:
    answer = anonymous.call("POST", path, body)
    assert (answer.status, answer.json) == (200, {"username": "carol"})
    for attribute in ("HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in answer.headers["set-cookie"]
    assert anonymous.call("GET", "/v5/login").json == {"username": "carol"}
    session = anonymous.cookies[COOKIE]
    assert mongo["admin"]["demo_sessions"].count_documents({"id": f"session:{session}"}) == 1

    answer = anonymous.call("POST", out)
    assert (answer.status, answer.json) == (200, {"username": "carol"})
    assert anonymous.cookies == {}
    assert mongo["admin"]["demo_sessions"].count_documents({"id": f"session:{session}"}) == 0
    anonymous.cookies[COOKIE] = session
    assert not logged_in(anonymous)


@pytest.mark.parametrize(
    "body",
    [{"user": "alice", "password": "wrong"}, {"user": "nobody", "password": "demo"}, {"user": "a", "password": "b"}],
)
def test_wrong_credentials_do_not_tell_which_is_wrong(anonymous: Client, body: object) -> None:
    answer = anonymous.call("POST", "/v5/login", body)
    assert (answer.status, answer.json["code"]) == (400, "INCORRECT_USERNAME_OR_PASSWORD")
    assert anonymous.cookies == {}


def test_a_session_id_of_somebody_elses_choice_is_not_used(port: int) -> None:
    victim = Client(port, cookies={COOKIE: "planted"})
    victim.log_in("carol")
    assert victim.cookies[COOKIE] != "planted"

    mallory = Client(port).log_in("mallory")
    victim = Client(port, cookies=dict(mallory.cookies)).log_in("carol")
    assert victim.cookies != mallory.cookies
    # Its own goes on: sockets end with their session.
    assert mallory.call("GET", "/v5/login").json == {"username": "mallory"}
    assert victim.call("GET", "/v5/login").json == {"username": "carol"}


def test_logging_in_again_keeps_the_session(port: int) -> None:
    carol = Client(port).log_in("carol", Referer=f"{SITE}/")
    before = dict(carol.cookies)
    carol.log_in("carol", Referer=f"{SITE}/")
    assert carol.cookies == before
    assert logged_in(carol)


@pytest.mark.parametrize(
    ("first", "second", "survives"),
    [
        (f"{SITE}/a", f"{SITE}/b?c", False),
        (f"{SITE}/a", "HTTPS://APP.example.ORG", False),
        (f"{SITE}/a", f"{SITE}:8443/a", True),
        (f"{SITE}/a", "http://app.example.org/a", True),
        (f"{SITE}/a", None, True),
        (None, f"{SITE}/a", True),
        (None, None, True),
        ("not a url", "not a url", True),
        ("http://[", "http://[", True),
        ("http://x:port/", "http://x:port/", True),
    ],
)
def test_a_login_ends_older_ones_from_the_same_site(
    port: int, first: str | None, second: str | None, survives: bool
) -> None:
    older, other = Client(port), Client(port).log_in("bob", Referer=f"{SITE}/")
    older.log_in("dave", **({"Referer": first} if first else {}))
    newer = Client(port).log_in("dave", **({"Referer": second} if second else {}))
    assert logged_in(older) is survives
    assert logged_in(newer)
    assert logged_in(other)


def test_an_ended_session_hears_of_it(port: int, listen: Listen) -> None:
    older, other = Client(port).log_in("dave", Referer=SITE), Client(port).log_in("dave")
    listener, bystander = listen(older), listen(other)
    join(listener, notifications=True)
    join(bystander, notifications=True)
    newer = Client(port).log_in("dave", Referer=SITE)
    assert hear_until(listener, "loggedOut") == ELSEWHERE
    listener.socket.emit("join", {"notifications": True})
    assert hear_until(listener, "error")["code"] == "UNAUTHORISED"
    sent = newer.call("POST", "/v5/notifications", {"username": "dave"}).json
    assert hear_next(bystander) == ("dave::notificationUpserted", sent)


def test_a_logout_is_heard_by_the_sockets_of_that_session(port: int, listen: Listen) -> None:
    carol = Client(port).log_in("carol")
    listener = listen(carol)
    join(listener, notifications=True)
    carol.call("POST", "/v5/logout", x_socket_id=listener.id)
    assert hear_until(listener, "loggedOut") == {"reason": "You have logged out"}


def test_another_user_in_the_same_browser_leaves_the_sockets_of_the_first_alone(
    port: int, mongo: MongoClient[Document], listen: Listen
) -> None:
    browser = Client(port).log_in("carol", Referer=f"{SITE}/")
    listener = listen(browser)
    join(listener, notifications=True)
    browser.log_in("dave", Referer=f"{SITE}/", x_socket_id=listener.id)
    # Another one that is deleted ends: by then the store has been looked at.
    other = Client(port).log_in("bob")
    other_listener = listen(other)
    mongo["admin"]["demo_sessions"].delete_one({"id": f"session:{other.cookies['connect.sid']}"})
    assert hear_until(other_listener, "loggedOut")["reason"] == "Your session has ended"
    browser.call("POST", "/v5/notifications", {"username": "carol", "message": "hi"})
    assert hear_until(listener, "carol::notificationUpserted")["message"] == "hi"
