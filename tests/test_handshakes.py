"""A handshake's session is what Flask would open for the same cookie, whatever the cookie and the app's keys."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from flask import Flask, Request, has_app_context, session
from flask.sessions import SecureCookieSessionInterface
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import BadData
from werkzeug.test import create_environ

from repo_notify import RepoNotify
from repo_notify.serving import state_of
from repo_notify.sessions.flask import HandshakeSessions, with_session_cookie
from repo_notify.sessions.reads import SessionsUnavailable

USER = {"user": {"username": "carol"}, "seen": ("a", b"b")}
NAME = "connect.sid"


def make_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": "new", "SESSION_COOKIE_NAME": NAME, **config})
    return app


def signed(app: Flask, values: dict[str, Any] | None = None) -> str:
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    return serializer.dumps(USER if values is None else values)


def environ(header: str, query: str = "EIO=4&transport=websocket") -> dict[str, Any]:
    return {**create_environ("/chat/", query_string=query), "HTTP_COOKIE": header}


def as_flask(app: Flask, found: dict[str, Any]) -> dict[str, Any]:
    def read() -> dict[str, Any]:
        with app.request_context(dict(found)):
            return dict(session)

    # Flask leaves the app's context behind where the session cannot be opened.
    return copy_context().run(read)


APP = make_app()
COOKIE = signed(APP)
HEADERS = {
    "alone": f"{NAME}={COOKIE}",
    "among others": f"a=b; {NAME}={COOKIE}; {NAME}x=c",
    "twice": f"{NAME}={COOKIE}; {NAME}={signed(APP, {'user': {'username': 'dave'}})}",
    "blanks around it": f"a=b;  {NAME} = {COOKIE} ;c=d",
    "in quotes": f'{NAME}="{COOKIE}"',
    "compressed": f"{NAME}={signed(APP, {'long': 'x' * 500})}",
    "another's signature": f"{NAME}={signed(make_app(SECRET_KEY='other'))}",
    "cut short": f"{NAME}={COOKIE[:-3]}",
    "no signature": f"{NAME}={COOKIE.rsplit('.', 1)[0]}",
    "no dots": f"{NAME}=abc",
    "empty": f"{NAME}=",
    "no value": NAME,
    "none": "a=b",
    "not ASCII": f"{NAME}=ü{COOKIE}",
}


@pytest.mark.parametrize("header", HEADERS)
def test_it_is_what_flask_opens(header: str) -> None:
    found = environ(HEADERS[header])
    assert dict(HandshakeSessions(APP).open(found) or {}) == as_flask(APP, found)


def test_the_cookie_alone_is_somebodys() -> None:
    assert dict(HandshakeSessions(APP).open(environ(HEADERS["alone"])) or {}) == USER


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\x00"), max_size=80), st.integers(0, 200))
def test_whatever_is_in_the_header(text: str, at: int) -> None:
    header = f"{NAME}={COOKIE}"
    found = environ(header[:at] + text + header[at:])
    assert dict(HandshakeSessions(APP).open(found) or {}) == as_flask(APP, found)


def test_keys_may_change_while_the_app_runs() -> None:
    app = make_app(SECRET_KEY="old")
    sessions, cookie = HandshakeSessions(app), environ(f"{NAME}={signed(app)}")
    assert sessions.open(cookie) == USER
    app.secret_key = "new"
    assert sessions.open(cookie) == {}
    app.config["SECRET_KEY_FALLBACKS"] = ["old"]
    # Flask has fallbacks since 3.1.
    assert dict(sessions.open(cookie) or {}) == as_flask(app, cookie)
    app.secret_key = None
    assert not sessions.open(cookie)


def test_a_session_ends_with_its_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, cookie = HandshakeSessions(APP), environ(HEADERS["alone"])
    monkeypatch.setattr(APP, "permanent_session_lifetime", timedelta(seconds=-1))
    assert sessions.open(cookie) == as_flask(APP, cookie) == {}


def test_what_is_signed_but_no_session_is_the_hosts_mistake() -> None:
    serializer = SecureCookieSessionInterface().get_signing_serializer(APP)
    assert serializer is not None
    signer = serializer.make_signer(serializer.salt)
    broken = environ(f"{NAME}={signer.sign(b'e30x').decode()}")
    sessions = HandshakeSessions(APP)
    for read in (sessions.open, lambda found: as_flask(APP, found)):
        with pytest.raises(BadData):
            read(broken)


class Failing(SecureCookieSessionInterface):
    """A store that is away."""

    def open_session(self, app: Flask, request: Request) -> NoReturn:
        raise ConnectionError


def test_a_store_that_raises_leaves_no_context_behind() -> None:
    app = make_app(REPO_NOTIFY_LEGACY_V4=False)
    notify = RepoNotify(app)
    notify.identity_loader(lambda: "carol")
    app.session_interface = Failing()
    identities = state_of(app).identities
    identities.opened("a connection", environ(HEADERS["alone"]))
    assert not has_app_context()
    with pytest.raises(SessionsUnavailable):
        identities.of("a connection")
    notify.close(app)


class Subclass(SecureCookieSessionInterface):
    """The host's own."""


@pytest.mark.parametrize(("interface", "needs_none"), [(SecureCookieSessionInterface, True), (Subclass, False)])
def test_an_interface_of_the_hosts_own_may_ask_for_the_request(
    interface: Callable[[], SecureCookieSessionInterface], needs_none: bool
) -> None:
    app = make_app()
    app.session_interface = interface()
    sessions = HandshakeSessions(app)
    assert sessions.need_no_request is needs_none
    assert dict(sessions.open(environ(HEADERS["alone"])) or {}) == USER


def test_the_query_names_the_session_where_no_cookie_does() -> None:
    for name in (NAME, NAME.replace(".", "%2e")):
        found = with_session_cookie(environ("a=b", f"EIO=4&{name}={COOKIE}"), NAME)
        assert found["HTTP_COOKIE"] == f"a=b; {NAME}={COOKIE}"
    both = environ(HEADERS["alone"], f"{NAME}=other")
    assert with_session_cookie(both, NAME) is both
