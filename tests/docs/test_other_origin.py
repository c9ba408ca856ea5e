"""docs/clients.md, "A page of another origin": its module, its setting and its CORS, in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver

from tests.clients.conftest import installed_clients  # noqa: F401 - a fixture
from tests.console.browser import chromium
from tests.docs.conftest import Folder

pytestmark = [pytest.mark.browser, pytest.mark.clients]

SHOWN_ORIGIN = "https://app.example.org"
# Two origins of one site, as in the page's example; Chromium resolves both to loopback by itself.
PAGE_HOST, SERVICE_HOST = "app.repo.localhost", "api.repo.localhost"
SECONDS = 30

SERVICE = """
from gevent import monkey; monkey.patch_all()
from flask import Flask, request, session
from cors import allow_frontend
from origins import REPO_NOTIFY_ALLOWED_ORIGINS
from repo_notify import RepoNotify, events
from repo_notify.serving import serve

app = Flask(__name__)
app.config.update(SECRET_KEY="a key", SESSION_COOKIE_SAMESITE="Lax")
app.config.update(REPO_NOTIFY_ALLOWED_ORIGINS=REPO_NOTIFY_ALLOWED_ORIGINS)
notify = RepoNotify(app)
notify.permission_loader(lambda *asked: True)
allow_frontend(app)

@app.post("/login")
def login():
    session["user"] = {"username": "uma"}
    return {}

@app.post("/change")
def change():
    notify.publish(events.RevisionCreated(**request.get_json()))
    return {}

serve(app, host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True))
"""
RUN_STORY = """
const [service, transport, loginFirst, done] = arguments;
const failed = (error) => done(`${error}`);
const start = () => (window.story ? story(service, transport, loginFirst).then(done, failed) : setTimeout(start, 20));
start();
"""
PAGE = """<!doctype html>
<title>A frontend elsewhere</title>
<script type="importmap">{"imports": {"socket.io-client": "/socket.io.mjs"}}</script>
<script type="module">
  import { stayInRooms } from './rooms.mjs';
  const room = { teamspace: 'acme', project: 'a608516e-0fef-4185-bca8-bf03a256ad3d', model: 'structure' };
  window.story = async (service, transport, loginFirst) => {
    const post = (path, body, id) => fetch(service + path, {
      method: 'POST', credentials: 'include', body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', ...(id ? { 'x-socket-id': id } : {}) },
    });
    const change = (_id, socketId) => post('/change', { ...room, kind: 'container', data: { _id } }, socketId);
    if (loginFirst) await post('/login', {});
    let joined;
    const hasJoined = new Promise((resolve) => { joined = resolve; });
    const { socket, join, rejoin } = stayInRooms(service, { transports: [transport], onJoined: joined });
    await new Promise((resolve) => socket.on('connect', resolve));
    if (!loginFirst) await post('/login', {}, socket.id);
    join(room);
    await hasJoined;
    const heard = [];
    const all = new Promise((resolve) => socket.on('containerNewRevision', ({ data }) => {
      heard.push(data._id);
      if (data._id === 'last') resolve(heard);
    }));
    await change('my own', socket.id);
    await change('last');
    return all;
  };
</script>
"""


@contextmanager
def page_elsewhere(files: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Serve these files, by path with their media types, from an origin of their own; yields the origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text, media_type = files.get(self.path, ("", "text/plain"))
            self.send_response(200 if text else 404)
            self.send_header("Content-Type", media_type)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{PAGE_HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.set_script_timeout(SECONDS)
        yield driver


@pytest.mark.parametrize("login_first", [True, False], ids=["login first", "login of a connected socket"])
@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_page_of_another_origin_logs_in_joins_and_does_not_hear_of_its_own_changes(
    browser: webdriver.Chrome,
    folder: Callable[..., Folder],
    request: pytest.FixtureRequest,
    transport: str,
    login_first: bool,
) -> None:
    installed: Path = request.getfixturevalue("installed_clients")
    build = installed / "node_modules" / "sio-4" / "dist" / "socket.io.esm.min.js"
    files = {"/": (PAGE, "text/html"), "/socket.io.mjs": (build.read_text("utf-8"), "text/javascript")}
    with page_elsewhere(files) as origin:
        here = folder({SHOWN_ORIGIN: origin})
        here.save("clients.md")
        files["/rooms.mjs"] = ((here.path / "rooms.mjs").read_text("utf-8"), "text/javascript")
        (here.path / "service.py").write_text(SERVICE, "utf-8")
        url = here.run("exec python service.py").line("http://")
        browser.get(origin + "/")
        told = browser.execute_async_script(
            RUN_STORY,
            f"http://{SERVICE_HOST}:{urlsplit(url).port}",
            transport,
            login_first,
        )
    assert told == ["last"]
