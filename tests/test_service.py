"""The standalone service as it is deployed: `python wsgi.py`, gunicorn, sessions of another app, its end."""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

import pytest
import requests
import socketio
from websocket import WebSocket, WebSocketConnectionClosedException, create_connection

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import USERS
from tests.support.chat import ChatClient
from tests.support.command import environment
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.service import API_KEY, COMMANDS, ROOT, answers, command, service, service_environment
from tests.support.until import until
from tests.test_readiness import answered_in_time

pytestmark = pytest.mark.slow

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
FIELDS: dict[str, Any] = {**ROOM, "kind": "container"}


@pytest.fixture(scope="module", params=COMMANDS)
def served(request: pytest.FixtureRequest, sample: str) -> Iterator[Served]:
    """The service, started in each of the ways that the documentation shows."""
    port = free_port()
    with service(command(request.param, port), service_environment(sample), port) as found:
        yield found


@pytest.fixture(scope="module")
def rest(sample: str) -> Iterator[Served]:
    """Another Flask app with the same key, whose sessions the service reads."""
    with host_app({"REPO_NOTIFY_MONGO_URI": sample, "SESSION_COOKIE_NAME": "connect.sid"}) as found:
        yield found


def publish(served: Served, type: str, **fields: Any) -> None:  # noqa: A002 - the event's word
    answer = requests.post(
        served.url + "/notify/events",
        json={"type": type, **fields},
        headers={"Authorization": f"Bearer {API_KEY}"},
        timeout=SECONDS,
    )
    answer.raise_for_status()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_who_logged_in_at_another_app_joins_and_hears(
    served: Served, rest: Served, chat: Callable[..., ChatClient], transport: str
) -> None:
    client = chat(served.url, cookie=User(rest).log_in("carol").cookie, transports=(transport,))
    client.join(ROOM)
    publish(served, "TicketUpdated", **FIELDS, data={"n": 1})
    assert client.hear_event("containerUpdateTicket") == {**ROOM, "data": {"n": 1}}


def test_who_did_not_log_in_joins_nothing(served: Served, chat: Callable[..., ChatClient]) -> None:
    for cookie in ("", "connect.sid=forged"):
        assert chat(served.url, cookie=cookie).ask("join", ROOM)["code"] == "UNAUTHORISED"


def test_a_query_parameter_stands_for_the_cookie(served: Served, rest: Served, chat: Callable[..., ChatClient]) -> None:
    client = chat(f"{served.url}?{User(rest).log_in('carol').cookie}")
    assert client.ask("join", ROOM)["event"] == "success"


def test_health_and_readiness(served: Served) -> None:
    for path in ("/notify/healthz", "/notify/readyz"):
        answer = requests.get(served.url + path, timeout=SECONDS)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_config_js(served: Served) -> None:
    answer = requests.get(served.url + "/config/config.js", timeout=SECONDS)
    assert answer.headers["Content-Type"].startswith("application/javascript")
    host = served.url.replace("/", "\\u002F")
    assert answer.text == f'var ClientConfig = {{"chatHost": "{host}", "chatPath": "\\u002Fchat"}};\n'


def test_what_is_not_there_is_said_without_a_trace(served: Served) -> None:
    answer = requests.get(served.url + "/nowhere", timeout=SECONDS)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text


def test_metrics_name_no_user(served: Served, rest: Served, chat: Callable[..., ChatClient]) -> None:
    client = chat(served.url, cookie=User(rest).log_in("carol").cookie)
    client.join(ROOM)
    client.ask("join", {"teamspace": "acme", "project": TOWER})
    publish(served, "NotificationUpserted", username="carol", data={"text": "hello"})
    text = requests.get(served.url + "/notify/metrics", timeout=SECONDS).text
    names = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert {
        "repo_notify_connections",
        "repo_notify_rooms",
        "repo_notify_joins_total",
        "repo_notify_events_published_total",
        "repo_notify_deliveries_total",
        "repo_notify_publish_seconds",
    } <= names
    assert not re.search("carol|acme|hello|" + TOWER, text)
    assert metric(served, "repo_notify_connections", generation="4", transport="websocket") >= 1
    assert metric(served, "repo_notify_joins_total", action="join", outcome="success") >= 1
    assert metric(served, "repo_notify_joins_total", action="join", outcome="room_not_found") >= 1
    assert metric(served, "repo_notify_events_published_total", type="NotificationUpserted") >= 1


def test_server_side_sessions_of_another_app(sample: str, chat: Callable[..., ChatClient]) -> None:
    config = {"REPO_NOTIFY_MONGO_URI": sample, "SESSION_COOKIE_NAME": "connect.sid", "SESSIONS": "mongodb"}
    port = free_port()
    env = service_environment(sample, SESSION_TYPE="mongodb", SECRET_KEY="another")
    with host_app(config) as rest, service(command("wsgi.py", port), env, port) as served:
        user = User(rest).log_in("carol")
        client = chat(served.url, cookie=user.cookie)
        client.join(ROOM)
        session_id = user.cookie.removeprefix("connect.sid=")
        publish(served, "SessionsEnded", session_ids=[session_id], reason="You have logged in else where")
        assert client.hear_event("loggedOut") == {"reason": "You have logged in else where"}
        assert client.ask("join", ROOM)["code"] == "UNAUTHORISED"


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "never answers"])
def test_readiness_without_mongodb(silent: bool, chat: Callable[..., ChatClient]) -> None:
    with socket.socket() as database:
        database.bind(("127.0.0.1", 0))
        if silent:
            database.listen()
        uri = f"mongodb://127.0.0.1:{database.getsockname()[1]}"
        port = free_port()
        with service(command("wsgi.py", port), service_environment(uri), port) as served:
            answer = answered_in_time(served)
            assert answer.status_code == 503
            assert answer.json() == {"status": "unavailable", "reasons": {"mongodb": "MongoDB does not answer"}}
            assert requests.get(served.url + "/notify/healthz", timeout=SECONDS).status_code == 200


def test_sigterm_tells_clients(sample: str) -> None:
    gone = threading.Event()
    client = socketio.Client(reconnection=False)
    client.on("disconnect", lambda *_: gone.set())
    port = free_port()
    with service(command("wsgi.py", port), service_environment(sample), port) as served:
        client.connect(served.url, socketio_path="chat", transports=["websocket"])
        served.process.send_signal(signal.SIGTERM)
        assert gone.wait(SECONDS)
        assert served.process.wait(SECONDS) == 0


def test_gunicorns_worker_ends_after_so_many_requests_and_tells_its_clients(sample: str) -> None:
    """The next worker serves, and whoever was connected comes back to it; no request fails meanwhile."""
    back = threading.Event()
    client = socketio.Client(reconnection_delay=0.2, reconnection_delay_max=0.5)
    port = free_port()
    words = [*command("gunicorn", port), "--max-requests", "20"]
    with service(words, service_environment(sample), port) as served:
        client.connect(served.url, socketio_path="chat", transports=["websocket"])
        first = client.get_sid()
        client.on("connect", back.set)
        for _ in range(50):
            assert requests.get(served.url + "/notify/healthz", timeout=SECONDS).status_code == 200
        assert back.wait(SECONDS)
        assert client.get_sid() != first
        client.disconnect()
        served.process.terminate()
        assert served.process.wait(SECONDS) == 0


def stuck(served: Served) -> WebSocket:
    """A client that never reads again, nor answers a close."""
    raw = create_connection(f"ws://127.0.0.1:{served.port}/chat/?EIO=4&transport=websocket", timeout=SECONDS)
    raw.recv()
    raw.send("40")
    raw.recv()
    return raw


@pytest.mark.parametrize("way", ["wsgi.py", "gunicorn"])
def test_sigterm_ends_in_time_in_spite_of_who_is_stuck(sample: str, way: str) -> None:
    port = free_port()
    with (
        service(command(way, port), service_environment(sample, REPO_NOTIFY_SHUTDOWN_TIMEOUT="1"), port) as served,
        socket.create_connection(("127.0.0.1", port)) as half,
    ):
        half.sendall(b"POST /notify/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        raw = stuck(served)
        poll = requests.Session()
        answer = poll.get(served.url + "/chat/?EIO=4&transport=polling", timeout=SECONDS)
        assert answer.status_code == 200
        started = monotonic()
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(SECONDS)
        assert monotonic() - started < 8
        raw.close(timeout=0)


def test_a_host_on_a_stock_flask_socketio_ends_in_spite_of_who_is_gone(serve_host: Callable[..., Served]) -> None:
    """Told one after the other, the second would not hear of it: the first polled once and never again."""
    gone = threading.Event()
    client = socketio.Client(reconnection=False)
    client.on("disconnect", lambda *_: gone.set())
    served = serve_host(STOCK_SOCKETIO={"async_mode": "gevent"})
    assert requests.get(served.url + "/chat/?EIO=4&transport=polling", timeout=SECONDS).status_code == 200
    client.connect(served.url, socketio_path="chat", transports=["websocket"])
    started = monotonic()
    served.process.terminate()
    assert gone.wait(SECONDS)
    assert served.process.wait(SECONDS) == 0
    assert monotonic() - started < 8


def test_at_sigterm_connections_are_closed_at_a_rate_and_readiness_is_off(sample: str) -> None:
    port, clients = free_port(), 20
    environ = service_environment(sample, REPO_NOTIFY_DRAIN_RATE="20", REPO_NOTIFY_SHUTDOWN_TIMEOUT="20")
    with service(command("wsgi.py", port), environ, port) as served, ExitStack() as stack:
        raws = [stuck(served) for _ in range(clients)]
        for raw in raws:
            stack.callback(raw.close, timeout=0)
        kept = stack.enter_context(requests.Session())
        assert kept.get(f"{served.url}/notify/readyz", timeout=SECONDS).json() == {"status": "ok"}
        served.process.send_signal(signal.SIGTERM)
        ended = [next_end(raws)]
        answer = kept.get(f"{served.url}/notify/readyz", timeout=SECONDS)
        assert (answer.status_code, list(answer.json()["reasons"])) == (503, ["service"])
        ended += [next_end(raws) for _ in range(clients - 1)]
        assert ended[-1] - ended[0] > 0.5
        assert served.process.wait(SECONDS) == 0


def next_end(raws: list[WebSocket]) -> float:
    """Wait for the first of these connections to end, leave it out, and return when that was."""
    sockets: dict[Any, WebSocket] = {raw.sock: raw for raw in raws}
    ready, _, _ = select.select(list(sockets), [], [], SECONDS)
    at = monotonic()
    raw = sockets[ready[0]]
    with suppress(WebSocketConnectionClosedException):
        while raw.recv():
            """A position that came before."""
    raws.remove(raw)
    return at


def test_nobody_is_accepted_after_sigterm(sample: str) -> None:
    port = free_port()
    with service(
        command("wsgi.py", port), service_environment(sample, REPO_NOTIFY_SHUTDOWN_TIMEOUT="5"), port
    ) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as half:
            half.sendall(b"POST /notify/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            served.process.send_signal(signal.SIGTERM)
            until(lambda: not answers(served.url))
        assert served.process.wait(SECONDS) == 0


PROGRAM = """
from flask import Flask
from repo_notify import RepoNotify
app = Flask("x")
RepoNotify(app).socketio.run(app)
"""


def test_missing_monkey_patching_is_told_with_the_cure() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "from gevent import monkey; monkey.patch_all()" in done.stderr
    assert "REPO_NOTIFY_ASYNC_MODE = 'threading'" in done.stderr


def test_under_a_threaded_worker_gunicorn_says_what_is_missing(sample: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-k", "gthread", "wsgi:app", "--bind", f"127.0.0.1:{free_port()}"],
        env=service_environment(sample),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS * 2,
        check=False,
    )
    assert done.returncode != 0
    assert "monkey.patch_all()" in done.stderr


THREADED = """
import json, sys
from flask import Flask, jsonify, request, session
from repo_notify import RepoNotify, events
app = Flask("threaded")
app.config.update(SECRET_KEY="x", REPO_NOTIFY_ASYNC_MODE="threading", **json.loads(sys.argv[1]))
notify = RepoNotify(app)

@app.post("/login")
def login():
    session["user"] = {"username": request.get_json()["username"]}
    return jsonify({})

@app.post("/publish")
def publish():
    fields = request.get_json()
    notify.publish(getattr(events, fields.pop("type"))(**fields))
    return jsonify({})

app.run(host="127.0.0.1", port=int(sys.argv[2]), threaded=True)
"""


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_on_threads_under_flasks_own_server(sample: str, chat: Callable[..., ChatClient], transport: str) -> None:
    config = {"REPO_NOTIFY_MONGO_URI": sample, "REPO_NOTIFY_USERS_COLLECTION": USERS}
    port = free_port()
    words = ["-c", THREADED, json.dumps(config), str(port)]
    with service(words, environment(), port) as served:
        user = User(served).log_in("carol")
        client = chat(served.url, cookie=user.cookie, transports=(transport,))
        client.join(ROOM)
        for number in range(20):
            user.publish("TicketUpdated", **FIELDS, data={"n": number})
        heard = [client.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(20)]
        assert heard == list(range(20))
