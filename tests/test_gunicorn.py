"""Apps under a real gunicorn with our worker class: what it patches, what it serves, how it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import requests
import socketio

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import USERS
from tests.support import brokers
from tests.support.chat import ChatClient
from tests.support.command import environment
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app, running
from tests.support.service import HOST_KEY, OUR_WORKER, ROOT, START_SECONDS, answers, service
from tests.support.until import until

pytestmark = pytest.mark.slow

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}

# A host's app with the extension, behind a middleware that hides it from the server.
MOUNTED = """
import os, signal
from flask import Flask, request, session
from repo_notify import RepoNotify, events

def make(name):
    app = Flask(name)
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("REPO_NOTIFY_")})
    app.config.update(SECRET_KEY=os.environ["SECRET_KEY"], REPO_NOTIFY_SHUTDOWN_TIMEOUT=5)
    notify = RepoNotify(app)

    @app.get("/name")
    def tell_name():
        return name

    @app.post("/publish-and-end")
    def publish_and_end():
        fields = request.get_json()
        for number in range(int(request.args["number"])):
            notify.publish(events.TicketUpdated(**fields, kind="container", data={"n": number}))
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    return app

inner = make("one")

def app(environ, start_response):
    return inner(environ, start_response)
"""
SEVERAL = """
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from mounted import inner, make

app = DispatcherMiddleware(inner, {"/two": make("two")})
"""
# An app that takes until it may to load.
SLOW = """
import os, time
from pathlib import Path

Path("loading").touch()
while not Path("may-load").exists():
    time.sleep(0.02)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"loaded"]
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    (tmp_path / "mounted.py").write_text(MOUNTED)
    (tmp_path / "several.py").write_text(SEVERAL)
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def host_environment(mongo_uri: str, **environ: str) -> dict[str, str]:
    found = {"REPO_NOTIFY_MONGO_URI": mongo_uri, "REPO_NOTIFY_USERS_COLLECTION": USERS, "SECRET_KEY": HOST_KEY}
    return environment(**{**found, "REPO_NOTIFY_HTTP_PREFIX": "/notify", **environ})


def gunicorn(application: str, folder: Path, port: int, *options: str) -> list[str]:
    bound = ["--bind", f"127.0.0.1:{port}", "--chdir", str(folder), "--log-level", "warning"]
    return ["-m", "gunicorn", "-k", OUR_WORKER, application, *bound, *options]


@dataclass(frozen=True)
class Returning:
    """A client that reconnects by itself, and what has happened to it."""

    client: socketio.Client
    came: threading.Event
    gone: threading.Event


@contextmanager
def returning(url: str, transport: str, path: str = "chat") -> Iterator[Returning]:
    client = socketio.Client(reconnection_delay=0.1, reconnection_delay_max=0.2, randomization_factor=0)
    found = Returning(client, threading.Event(), threading.Event())
    client.on("connect", found.came.set)
    client.on("disconnect", lambda *_: found.gone.set())
    client.connect(url, socketio_path=path, transports=[transport])
    assert found.came.wait(SECONDS)
    found.came.clear()
    try:
        yield found
    finally:
        client.disconnect()


def test_the_worker_patches_before_it_imports(sample: str, programs: Path, chat: Callable[..., ChatClient]) -> None:
    port = free_port()
    words = ["-W", "error", *gunicorn("mounted:app", programs, port)]
    with service(words, host_environment(sample), port) as served:
        assert chat(served.url).ask("join", ROOM)["code"] == "UNAUTHORISED"


def test_wrong_settings_end_gunicorn_with_one_message(sample: str, programs: Path) -> None:
    done = subprocess.run(
        [sys.executable, *gunicorn("mounted:app", programs, free_port())],
        env={**host_environment(sample, REPO_NOTIFY_PING_INTERVAL="often"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS * 2,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.count("REPO_NOTIFY_PING_INTERVAL should be") == 1
    assert "Traceback" not in done.stderr


def test_nobody_waits_for_an_app_that_is_still_loading(programs: Path) -> None:
    """Refused, they are another process's at once; else a proxy would wait here for as long as it takes to load."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([sys.executable, *gunicorn("slow:app", programs, port, "--workers", "2")], environment()):
        until((programs / "loading").exists, seconds=START_SECONDS)
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=SECONDS)
        (programs / "may-load").touch()
        until(lambda: answers(url))


def test_at_sigterm_a_mounted_apps_clients_come_back_to_the_next_process(sample: str, programs: Path) -> None:
    port = free_port()
    words, environ = gunicorn("mounted:app", programs, port), host_environment(sample)
    with service(words, environ, port) as first, returning(first.url, "websocket") as client:
        first.process.terminate()
        assert client.gone.wait(SECONDS)
        assert first.process.wait(SECONDS) == 0
        with service(words, environ, port):
            assert client.came.wait(SECONDS)


def test_at_sigterm_nobody_waits_for_connections_that_are_kept_alive(sample: str, programs: Path) -> None:
    """Else gunicorn would for its `--graceful-timeout`, 30 s."""
    port = free_port()
    with (
        service(gunicorn("mounted:app", programs, port), host_environment(sample), port) as served,
        requests.Session() as http,
        returning(served.url, "polling") as client,
    ):
        assert http.get(served.url + "/name", timeout=SECONDS).text == "one"
        served.process.terminate()
        assert client.gone.wait(SECONDS)
        assert served.process.wait(SECONDS) == 0


@pytest.mark.parametrize("preload", [False, True], ids=["", "preloaded"])
def test_at_sigterm_every_app_of_the_process_tells_its_clients(sample: str, programs: Path, preload: bool) -> None:
    patched = programs / "patched.py"
    patched.write_text("from gevent import monkey\nmonkey.patch_all()\n")
    port = free_port()
    words = gunicorn("several:app", programs, port, *(["--preload", "--config", str(patched)] if preload else []))
    with (
        service(words, host_environment(sample), port) as served,
        returning(served.url, "websocket") as one,
        returning(served.url, "websocket", "two/chat") as two,
    ):
        assert requests.get(served.url + "/two/name", timeout=SECONDS).text == "two"
        served.process.terminate()
        assert one.gone.wait(SECONDS)
        assert two.gone.wait(SECONDS)
        assert served.process.wait(SECONDS) == 0


def test_what_was_published_before_sigterm_reaches_the_other_processes(
    sample: str, programs: Path, tmp_path: Path, chat: Callable[..., ChatClient]
) -> None:
    number, port = 300, free_port()
    with brokers.redis(tmp_path) as queue:
        shared = {"REPO_NOTIFY_MESSAGE_QUEUE": queue}
        config = {"REPO_NOTIFY_MONGO_URI": sample, "REPO_NOTIFY_USERS_COLLECTION": USERS, **shared}
        environ = host_environment(sample, **shared)
        with (
            host_app(config) as other,
            service(gunicorn("mounted:app", programs, port), environ, port) as served,
        ):
            for one in (other, served):
                until(partial(is_ready, one))
            client = chat(other.url, cookie=User(other).log_in("carol").cookie)
            client.join(ROOM)
            address = f"{served.url}/publish-and-end?number={number}"
            assert requests.post(address, json=ROOM, timeout=SECONDS).status_code == 200
            heard = [client.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(number)]
            assert heard == list(range(number))


def is_ready(served: Served) -> bool:
    return requests.get(served.url + "/notify/readyz", timeout=SECONDS).status_code == 200
