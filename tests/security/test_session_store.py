"""A session store that hangs: CONNECT waits once and not for long, joins are told in time, the log has one line."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from flask_session import Session
from pymongo import MongoClient

from repo_notify import RepoNotify
from tests.conftest import ENGINES, host_defaults
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.served import User, host_app
from tests.support.threaded import serving
from tests.support.until import until
from tests.test_extension import cookie_of, make_app

Connect = Callable[..., ChatClient]
LIMIT = 1.0
# Of the limit, and what a busy machine adds to it; the proxy holds a query for ten.
PATIENCE = 4.0
CLIENTS = 20
NOTIFICATIONS = {"notifications": True}
LINE = "the session of a handshake could not be read"


def took(call: Callable[[], Any]) -> float:
    started = monotonic()
    call()
    return monotonic() - started


def joins(client: ChatClient) -> bool:
    return bool(client.ask("join", NOTIFICATIONS).get("event") == "success")


def outage(url: str, cookie: str, database: MongoProxy, chat: Connect) -> None:
    """Freeze the store, connect and join, thaw it, and join."""
    clients: list[ChatClient] = []

    def connect() -> None:
        clients.append(chat(url, cookie=cookie))

    database.hold()
    with ThreadPoolExecutor(CLIENTS) as pool:
        waits = [future.result() for future in [pool.submit(took, connect) for _ in range(CLIENTS)]]
    assert max(waits) < PATIENCE
    # Who comes later is not held up: the store is known to be silent.
    assert min(took(connect) for _ in range(3)) < LIMIT / 2
    for client in clients[:5]:
        started = monotonic()
        assert client.ask("join", NOTIFICATIONS)["code"] == "SERVICE_UNAVAILABLE"
        assert monotonic() - started < PATIENCE
    database.release()
    for client in clients:
        until(partial(joins, client))


@pytest.mark.parametrize("engine", ENGINES)
def test_on_gevent(sample: str, chat: Connect, tmp_path: Path, engine: str) -> None:
    log = tmp_path / "stderr"
    with MongoProxy(sample) as database, log.open("wb") as stderr:
        config = {
            **host_defaults(database.uri),
            **ENGINES[engine],
            "SESSIONS": "mongodb",
            "REPO_NOTIFY_PERMISSION_TIMEOUT": LIMIT,
            "REPO_NOTIFY_RECHECK_SECONDS": 0,
            "REPO_NOTIFY_SHUTDOWN_TIMEOUT": 0.2,
        }
        with host_app(config, stderr=stderr.fileno()) as served:
            outage(served.url, User(served).log_in("carol").cookie, database, chat)
            assert metric(served, "repo_notify_sessions_total", outcome="store_error") > 0
    assert log.read_text().count(LINE) == 1
    assert "Traceback" not in log.read_text()


def test_on_threads(sample: str, chat: Connect, caplog: pytest.LogCaptureFixture) -> None:
    store: MongoClient[dict[str, Any]]
    with MongoProxy(sample) as database, MongoClient(database.uri, connect=False) as store:
        app = make_app(sample, REPO_NOTIFY_PERMISSION_TIMEOUT=LIMIT, SESSION_TYPE="mongodb", SESSION_MONGODB=store)
        Session(app)
        RepoNotify(app)
        with serving(app) as url:
            cookie = cookie_of(url)
            outage(url, cookie, database, chat)
    assert caplog.text.count(LINE) == 1
    assert "Traceback" not in caplog.text
