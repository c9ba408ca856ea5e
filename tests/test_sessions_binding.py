"""spec section 2: the three ways in which a socket gets its user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import host_defaults
from tests.support.chat import ChatClient
from tests.support.people import People
from tests.support.served import Served, User, host_app

Json = Any
Connect = Callable[..., ChatClient]
NOTIFICATIONS = {"notifications": True}
KINDS = ("cookie", "mongodb", "flask-login")


def user_of(served: Served, client: ChatClient, *candidates: str) -> str | None:
    """Which of the candidates the socket belongs to: by the notifications that it may listen to."""
    reply = client.ask("join", NOTIFICATIONS)
    client.heard_so_far()
    if reply.get("code") == "UNAUTHORISED":
        assert reply["message"] == "You are not logged in"
        return None
    for name in candidates:
        User(served).publish("NotificationUpserted", username=name, data={})
    heard = [event.split("::")[0] for event, _ in client.heard_so_far()]
    assert len(heard) == 1, heard
    return heard[0]


@pytest.fixture(scope="module", params=KINDS)
def kind_host(request: pytest.FixtureRequest, sample: str) -> Iterator[Served]:
    """A host app with each kind of session."""
    with host_app({**host_defaults(sample), "SESSIONS": request.param}) as served:
        yield served


def test_the_cookie_on_the_handshake(kind_host: Served, chat: Connect, transport: str) -> None:
    cookie = User(kind_host).log_in("carol").cookie
    assert user_of(kind_host, chat(kind_host.url, cookie=cookie, transports=(transport,)), "carol", "dave") == "carol"
    assert user_of(kind_host, chat(kind_host.url, transports=(transport,)), "carol") is None


def test_the_cookie_on_the_handshake_of_either_server(people: People, transport: str) -> None:
    assert user_of(people.served, people.client("carol", transport=transport), "carol", "dave") == "carol"
    assert user_of(people.served, people.client(None, transport=transport), "carol") is None


QUERIES = (
    # cookie header, query parameter, user
    ("", "{good}", "carol"),
    ("theme=dark", "{good}", "carol"),
    ("sessions=1; xsession=2", "{good}", "carol"),
    ("session={good}", "", "carol"),
    ("session={good}", "wrong", "carol"),
    ("session={other}", "{good}", "dave"),
    ("session=wrong", "{good}", None),
    ("session=", "{good}", None),
    ("theme=dark; session=wrong", "{good}", None),
    ("", "wrong", None),
    ("", "", None),
    ("", "x; session={good}", None),
    ("", "\r\nx: y", None),
)


@pytest.mark.parametrize(("cookie", "query", "user"), QUERIES)
def test_the_query_parameter_counts_where_there_is_no_cookie_of_that_name(
    people: People, chat: Connect, transport: str, cookie: str, query: str, user: str | None
) -> None:
    users = {"good": "carol", "other": "dave"}
    values = {name: people.user(user).http.cookies["session"] for name, user in users.items()}
    url = f"{people.served.url}/?session={quote(query.format_map(values))}"
    client = chat(url, cookie=cookie.format_map(values), transports=(transport,))
    assert user_of(people.served, client, "carol", "dave") == user


def test_the_cookie_has_the_name_that_the_host_gave_it(serve_host: Callable[..., Served], chat: Connect) -> None:
    served = serve_host(SESSION_COOKIE_NAME="connect.sid", SESSIONS="mongodb")
    user = User(served).log_in("carol")
    value = user.http.cookies["connect.sid"]
    for url, cookie, expected in (
        (served.url, f"connect.sid={value}", "carol"),
        (f"{served.url}/?connect.sid={value}", "", "carol"),
        (f"{served.url}/?session={value}", "", None),
        (served.url, f"session={value}", None),
    ):
        assert user_of(served, chat(url, cookie=cookie), "carol") == expected


@pytest.mark.parametrize("how", ["sid", "engine id"])
@pytest.mark.parametrize("when", ["login", "later request", "request that fails"])
def test_a_request_names_the_socket_that_came_first(
    kind_host: Served, chat: Connect, transport: str, how: str, when: str
) -> None:
    client = chat(kind_host.url, transports=(transport,))
    assert user_of(kind_host, client, "carol") is None
    user = User(kind_host)
    headers = {"x-socket-id": client.id if how == "sid" else client.engine_id}
    if when == "login":
        user.log_in("carol", headers["x-socket-id"])
    else:
        user.log_in("carol")
        assert user_of(kind_host, client, "carol") is None
        path = "/plain" if when == "later request" else "/nowhere"
        user.http.get(kind_host.url + path, headers=headers, timeout=5)
    assert user_of(kind_host, client, "carol", "dave") == "carol"


def test_a_request_binds_on_a_host_with_a_stock_server_too(people: People, transport: str) -> None:
    for name in ("id", "engine_id"):
        with closing(people.connect(None, transport=transport)) as client:
            people.user("carol").http.get(
                people.served.url + "/plain", headers={"x-socket-id": getattr(client, name)}, timeout=5
            )
            assert user_of(people.served, client, "carol", "dave") == "carol"


def test_nobody_is_bound_by_a_request_that_is_not_logged_in(people: People) -> None:
    with closing(people.connect(None)) as client:
        User(people.served).publish("NotificationUpserted", client.id, username="carol", data={})
        assert user_of(people.served, client, "carol") is None


def test_a_socket_of_one_user_is_never_given_to_another(people: People) -> None:
    with closing(people.connect("carol")) as client:
        assert people.user("dave").http.get(
            people.served.url + "/plain", headers={"x-socket-id": client.id}, timeout=5
        ).ok
        User(people.served).log_in("dave", client.id)
        assert user_of(people.served, client, "carol", "dave") == "carol"


@pytest.mark.parametrize("socket_id", ["nobody", "", "x" * 5_000, "/legacy_v4#nobody", "#", "é", "1, 2"])
def test_an_id_that_no_socket_has_is_ignored(people: People, socket_id: str) -> None:
    headers = {"x-socket-id": socket_id.encode()}
    assert people.user("carol").http.get(people.served.url + "/plain", headers=headers, timeout=5).ok


def test_an_answer_is_not_changed_by_the_header(host: Served) -> None:
    """No cookie is set and no cache is told to vary where nobody is logged in."""
    plain = User(host).http.get(host.url + "/plain", timeout=5)
    named = User(host).http.get(host.url + "/plain", headers={"x-socket-id": "nobody"}, timeout=5)
    assert "Set-Cookie" not in named.headers
    assert "Set-Cookie" not in plain.headers
    assert "Vary" not in plain.headers


@pytest.mark.parametrize("signer", [False, True])
def test_a_server_side_session_is_named_by_its_cookies_value_without_signature(
    serve_host: Callable[..., Served], signer: bool
) -> None:
    served = serve_host(SESSIONS="mongodb", SESSION_USE_SIGNER=signer)
    user = User(served).log_in("carol")
    found = user.http.get(served.url + "/session", timeout=5).json()["session_id"]
    value = str(user.http.cookies["session"])
    assert found == (value.rsplit(".", 1)[0] if signer else value)


def test_a_cookie_session_keeps_an_id_of_its_own(kind_host: Served) -> None:
    users = [User(kind_host).log_in("carol") for _ in range(2)]
    ids = [
        {user.http.get(kind_host.url + "/session", timeout=5).json()["session_id"] for _ in range(2)} for user in users
    ]
    assert [len(found) for found in ids] == [1, 1]
    assert None not in ids[0] | ids[1]
    assert ids[0] != ids[1]
    assert User(kind_host).http.get(kind_host.url + "/session", timeout=5).json() == {"session_id": None}
