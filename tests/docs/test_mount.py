"""docs/mount.md: each of its programs, served and used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.docs.conftest import Folder
from tests.docs.pages import blocks
from tests.support.chat import ChatClient
from tests.support.served import SECONDS
from tests.support.teamspaces import Teamspace

pytest.importorskip("legacy_v4")

PAGE = "mount.md"
PROGRAMS = ["api.py", "identity.py", "flask_login_app.py", "one_session.py", "own_socketio.py"]
# What a host has of its own, in the place of the page's `g.user` and login.
BY_HEADER = """
from types import SimpleNamespace
from flask import g, request
@page.app.before_request
def load():
    if "X-User" in request.headers:
        g.user = SimpleNamespace(name=request.headers["X-User"])
"""
BY_FLASK_LOGIN = """
from flask_login import login_user
@page.app.post("/enter/<name>")
def enter(name):
    login_user(page.User(name))
    return {}
"""


class Site:
    """A teamspace with one model that `uma` may read, and her browser at a served app."""

    def __init__(self, teamspace: Teamspace, chat: Callable[..., ChatClient]) -> None:
        self.model = teamspace.model({"uma": "viewer"})
        self.project = teamspace.project([self.model])
        self.teamspace, self._chat = teamspace.name, chat
        self.http = requests.Session()

    @property
    def room(self) -> dict[str, str]:
        return {"teamspace": self.teamspace, "project": self.project, "model": self.model}

    def post(self, url: str, body: Any = None, **headers: str) -> None:
        self.http.post(url, json=body, headers=headers, timeout=SECONDS).raise_for_status()

    def connect(self, url: str, **options: Any) -> ChatClient:
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies)
        return self._chat(url, cookie=cookie, **options)


@pytest.fixture
def site(teamspaces: Callable[..., Teamspace], chat: Callable[..., ChatClient]) -> Site:
    return Site(teamspaces(), chat)


@pytest.fixture
def here(folder: Callable[..., Folder]) -> Folder:
    made = folder()
    assert made.save(PAGE) == PROGRAMS
    return made


def test_an_app_with_a_factory(here: Folder, site: Site) -> None:
    here.await_service(here.run("exec python api.py"))
    uma = site.connect(here.url)
    site.post(here.url + "/login", {"username": "uma"}, **{"x-socket-id": uma.id})
    uma.join({"account": site.teamspace, "model": site.model})
    issue = {"_id": "i1", "name": "Leak"}
    requests.post(f"{here.url}/{site.teamspace}/{site.model}/issues", json=issue, timeout=SECONDS).raise_for_status()
    assert uma.hear_event(f"{site.teamspace}::{site.model}::newIssues") == [issue]
    site.post(here.url + "/logout")
    assert "reason" in uma.hear_event("loggedOut")


def test_an_identity_of_ones_own(here: Folder, site: Site) -> None:
    url = here.serve("identity", BY_HEADER)
    uma = site.connect(url)
    assert uma.ask("join", site.room)["code"] == "UNAUTHORISED"
    uma.heard_so_far()
    requests.get(url + "/", headers={"X-User": "uma", "x-socket-id": uma.id}, timeout=SECONDS)
    uma.join(site.room)


def test_flask_login(here: Folder, site: Site) -> None:
    url = here.serve("flask_login_app", BY_FLASK_LOGIN)
    site.post(url + "/enter/uma")
    site.connect(url).join(site.room)


def test_one_session_at_a_time(here: Folder, site: Site) -> None:
    url = here.serve("one_session")
    site.post(url + "/login", {"username": "uma"})
    first = site.connect(url)
    site.post(url + "/only-here/uma")
    site.http = requests.Session()
    site.post(url + "/login", {"username": "uma"})
    site.post(url + "/only-here/uma")
    assert first.hear_event("loggedOut") == {"reason": "You have logged in else where"}


def test_a_flask_socketio_of_ones_own(here: Folder, site: Site) -> None:
    login = "\nfrom flask import session\n@page.app.post('/login')\ndef login():\n    "
    url = here.serve("own_socketio", login + "session['user'] = {'username': 'uma'}\n    return {}\n")
    site.post(url + "/login")
    assert site.connect(url).ask("hello", "uma") == "hello uma"
    site.connect(url, namespace="/rooms").join(site.room)


def test_it_runs_as_a_program(here: Folder) -> None:
    here.await_service(here.run("exec python own_socketio.py"))


def test_every_block_of_the_page_is_run_here(here: Folder) -> None:
    assert len(blocks(PAGE)) == len(PROGRAMS)
