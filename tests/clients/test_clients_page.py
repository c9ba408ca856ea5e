"""docs/clients.md: each of its programs, run as it stands there under Node or Python against a served app."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import requests
from flask import Flask

from repo_notify.settings import read
from tests.clients.install import Node
from tests.docs.pages import Block, blocks
from tests.support.lines import Program, printing
from tests.support.served import SECONDS, Served, User
from tests.support.teamspaces import Teamspace

PAGE = blocks("clients.md")
SHOWN_HOST = "http://127.0.0.1:3000"
# What a browser does by itself, Node is told to; in lower case, as the client adds its own cookies there.
SHOWN_PATH = "path: '/chat'"
# Commands for the module, a line each, so that a test can take it through a story.
STORY = """
import { createInterface } from 'node:readline';
import { stayInRooms } from './rooms.mjs';
const say = (...words) => console.log(JSON.stringify(words));
const { socket, join, leave, rejoin } = stayInRooms(HOST, {
  onJoined: (room) => say('joined', room.model),
  onLost: (room, message) => say('lost', room.model, message),
});
socket.on('connect', () => say('connect', socket.id));
socket.on('disconnect', (reason) => say('disconnect', reason));
socket.onAny((event, data) => say('event', event, data));
const commands = { join, leave, rejoin, drop: () => socket.io.engine.transport.ws.terminate() };
createInterface({ input: process.stdin }).on('line', (line) => {
  const [command, argument] = JSON.parse(line);
  commands[command](argument);
  say('done', command);
});
"""


def named(name: str) -> Block:
    """The block whose first line is a comment with that file name."""
    (found,) = (block for block in PAGE if re.match(rf"(//|#) {re.escape(name)}\n", block.text))
    return found


class Place:
    """A model of its own on a served app, which `uma` may read."""

    def __init__(self, served: Served, teamspace: Teamspace) -> None:
        self.served, self.teamspace = served, teamspace
        self.model = teamspace.model({"uma": "viewer"})
        self.project = teamspace.project([self.model])
        self.uma = User(served).log_in("uma")

    @property
    def room(self) -> dict[str, str]:
        return {"teamspace": self.teamspace.name, "project": self.project, "model": self.model}

    def new_revision(self, revision: str) -> None:
        User(self.served).publish("RevisionCreated", **self.room, kind="container", data={"_id": revision})

    def script(self, text: str, *, host: str = SHOWN_HOST, language: str = "js") -> str:
        """Return a block's text with this place's address, session and ids in it."""
        assert host in text or SHOWN_PATH in text, "the block was written anew"
        text = text.replace(host, self.served.url).replace("'acme'", repr(self.teamspace.name))
        text = text.replace(SHOWN_PATH, f"{SHOWN_PATH}, extraHeaders: {{ cookie: {json.dumps(self.uma.cookie)} }}")
        names = {"PROJECT": self.project, "MODEL": self.model, "ROOM": self.room, "COOKIE": self.uma.cookie}
        const = "const " if language == "js" else ""
        return "".join(f"{const}{name} = {json.dumps(value)}\n" for name, value in names.items()) + text


@pytest.fixture
def place(serve_host: Callable[..., Served], teamspaces: Callable[..., Teamspace]) -> Place:
    served = serve_host(REPO_NOTIFY_RECHECK_SECONDS=0.2, REPO_NOTIFY_PERMISSION_CACHE_SECONDS=0.1)
    return Place(served, teamspaces())


Run = Callable[..., AbstractContextManager[Program]]


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run a JavaScript module with that name, beside the others that are given, where `socket.io-client` is."""
    node: Node = request.getfixturevalue("node")
    installed: Path = request.getfixturevalue("installed_clients")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "socket.io-client").symlink_to(installed / "node_modules" / "sio-4")

    @contextmanager
    def start(name: str, **modules: str) -> Iterator[Program]:
        for module, text in modules.items():
            (tmp_path / f"{module}.mjs").write_text(text, "utf-8")
        with printing([node.executable, f"{name}.mjs"], tmp_path, node.environment()) as program:
            yield program

    return start


@pytest.mark.clients
def test_connect_join_listen(place: Place, run: Run) -> None:
    (shown,) = (block for block in PAGE if block.heading == "Connect, join, listen")
    told = "socket.on('message', (reply) => console.log(reply.event));\n"
    with run("first", first=place.script(shown.text) + told) as program:
        program.line("success")
        place.new_revision("r1")
        program.line("new revision r1")


@pytest.mark.clients
def test_the_example_of_the_module(place: Place, run: Run) -> None:
    modules = {"rooms": place.script(named("rooms.mjs").text), "main": place.script(named("main.mjs").text)}
    with run("main", **modules) as program:
        program.line(f"load what is shown of {place.model}")
        place.new_revision("r1")
        program.line("new revision r1")
        place.teamspace.take("settings", place.model)
        program.line(f"no longer in {place.model} Model not found")


@pytest.fixture
def story(place: Place, run: Run) -> Iterator[Program]:
    host = f"const HOST = {json.dumps(place.served.url)};\n"
    with run("story", rooms=place.script(named("rooms.mjs").text), story=host + STORY) as program:
        program.line('"connect"')
        yield program


def join(story: Program, place: Place) -> None:
    story.say(json.dumps(["join", place.room]))
    story.line(json.dumps(["joined", place.model], separators=(",", ":")))


@pytest.mark.clients
def test_a_dropped_link_is_joined_again_and_each_event_comes_once(place: Place, story: Program) -> None:
    join(story, place)
    place.new_revision("before")
    story.line('"before"')
    story.say('["drop"]')
    story.line('["disconnect"')
    story.line('["connect"')
    story.line('["joined"')
    place.new_revision("after")
    place.new_revision("last")
    story.line('"last"')
    heard = [line for line in story.so_far() if '"event","containerNewRevision"' in line]
    assert [re.findall("before|after|last", line)[0] for line in heard] == ["before", "after", "last"]


@pytest.mark.clients
def test_who_leaves_is_not_joined_again(place: Place, story: Program) -> None:
    join(story, place)
    story.say(json.dumps(["leave", place.room]))
    story.line('"action":"leave"')
    story.say('["drop"]')
    story.line('["connect"')
    story.say(json.dumps(["join", {"teamspace": "acme", "project": place.project, "model": "none"}]))
    story.line('["lost","none","Model not found"]')
    assert sum('["joined"' in line for line in story.so_far()) == 1


@pytest.mark.clients
def test_after_a_logout_and_a_login_the_rooms_are_joined_again(place: Place, story: Program) -> None:
    join(story, place)
    (connected,) = (json.loads(line) for line in story.so_far() if line.startswith('["connect"'))
    place.uma.post("/logout").raise_for_status()
    story.line('"loggedOut"')
    story.say('["rejoin"]')
    story.line('"You are not logged in"')
    place.uma.log_in("uma", socket_id=connected[1])
    story.say('["rejoin"]')
    story.line('["joined"')


@pytest.mark.clients
def test_the_module_is_short() -> None:
    assert len(named("rooms.mjs").text.splitlines()) <= 32


def test_an_origin_of_ones_own(serve_host: Callable[..., Served]) -> None:
    values: dict[str, list[str]] = {}
    exec(named("origins.py").text, values)  # noqa: S102 - a block of our own page
    origins = values["REPO_NOTIFY_ALLOWED_ORIGINS"]
    assert read({"REPO_NOTIFY_ALLOWED_ORIGINS": origins}).allowed_origins == ("https://app.example.org",)
    served = serve_host(REPO_NOTIFY_ALLOWED_ORIGINS=origins)
    handshake = f"{served.url}/chat/?EIO=4&transport=polling"
    answers = {
        origin: requests.get(handshake, headers={"Origin": origin}, timeout=SECONDS)
        for origin in (*origins, "https://other.example.org", "null")
    }
    assert [answer.status_code for answer in answers.values()] == [200, 400, 400]
    assert answers[origins[0]].headers["Access-Control-Allow-Credentials"] == "true"


def test_the_rest_api_allows_the_header() -> None:
    found: dict[str, Callable[[Flask], None]] = {}
    exec(named("cors.py").text, found)  # noqa: S102 - a block of our own page
    app = Flask("api")
    app.post("/issues")(lambda: "made")
    found["allow_frontend"](app)
    client = app.test_client()
    headers = {"Origin": "https://app.example.org", "Access-Control-Request-Headers": "x-socket-id"}
    asked = client.options("/issues", headers={**headers, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 200
    assert "x-socket-id" in asked.headers["Access-Control-Allow-Headers"]
    assert asked.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Access-Control-Allow-Origin" not in client.options("/issues", headers={"Origin": "https://evil.org"}).headers


def test_a_python_client(place: Place, tmp_path: Path) -> None:
    (tmp_path / "listen.py").write_text(place.script(named("listen.py").text, language="python"), "utf-8")
    with printing([sys.executable, "listen.py"], tmp_path, os.environ) as program:
        program.line("success")
        place.new_revision("r1")
        program.line("new revision r1")


def test_every_block_of_the_page_is_run_here() -> None:
    names = ["rooms.mjs", "main.mjs", "origins.py", "cors.py", "listen.py"]
    run = [named(name) for name in names]
    assert [block for block in PAGE if block not in run and block.heading != "Connect, join, listen"] == []
