"""A storm of handshakes reads the sessions of Flask-Session's known stores together, and judges each as before."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from contextvars import copy_context
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

import msgspec
import pytest
from flask import Flask, session
from flask_session import Session
from itsdangerous import Signer
from pymongo import MongoClient
from redis import Redis
from werkzeug.test import create_environ

from repo_notify.sessions.flask import HandshakeSessions
from repo_notify.sessions.together import ReadFailed
from tests.conftest import host_defaults
from tests.support.brokers import redis
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.served import Served, host_app
from tests.support.until import until

STORM = 1_000
NAME, SECRET = "connect.sid", "stormy"
COLLECTION = "stormy_sessions"
NOTIFICATIONS = {"notifications": True}
CAROL = {"user": {"username": "carol"}, "_permanent": True}


class Store(Protocol):
    """A store as Flask-Session 0.8 fills it, read by a host app through `config`."""

    config: dict[str, Any]

    def save(self, sid: str, value: bytes, seconds: float = 600.0) -> None:
        """Save a session that runs out after so many seconds."""

    def queries(self) -> int:
        """Return how often sessions have been asked for so far."""

    def use(self, app: Flask) -> None:
        """Set an app's sessions up."""


def settings(uri: str) -> dict[str, Any]:
    return {**host_defaults(uri), "SECRET_KEY": SECRET, "SESSION_COOKIE_NAME": NAME}


class InMongo:
    def __init__(self, uri: str, proxy: MongoProxy) -> None:
        self.config: dict[str, Any] = {
            **settings(uri),
            "REPO_NOTIFY_MONGO_URI": proxy.uri,
            "SESSIONS": "mongodb",
            "SESSION_MONGODB_DB": "admin",
            "SESSION_MONGODB_COLLECT": COLLECTION,
        }
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.sessions = self.client["admin"][COLLECTION]
        self._proxy = proxy

    def save(self, sid: str, value: bytes, seconds: float = 600.0) -> None:
        at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        self.sessions.insert_one({"id": f"session:{sid}", "val": value, "expiration": at})

    def queries(self) -> int:
        return self._proxy.finds[COLLECTION]

    def use(self, app: Flask) -> None:
        app.config.update({**self.config, "SESSION_TYPE": "mongodb", "SESSION_MONGODB": self.client})


class InRedis:
    def __init__(self, uri: str, url: str) -> None:
        self.config: dict[str, Any] = {**settings(uri), "SESSIONS": "redis", "REDIS_OF_SESSIONS": url}
        self.client = Redis.from_url(url)

    def save(self, sid: str, value: bytes, seconds: float = 600.0) -> None:
        if seconds > 0:
            self.client.set(f"session:{sid}", value, px=round(seconds * 1000))

    def queries(self) -> int:
        stats: Any = self.client.info("commandstats")
        return sum(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in ("get", "mget"))

    def use(self, app: Flask) -> None:
        app.config.update({**self.config, "SESSION_TYPE": "redis", "SESSION_REDIS": self.client})


@contextmanager
def in_mongo(uri: str) -> Iterator[InMongo]:
    with MongoProxy(uri) as proxy:
        store = InMongo(uri, proxy)
        with store.client:
            yield store
            store.sessions.drop()


@pytest.fixture(params=["mongodb", "redis"])
def store(request: pytest.FixtureRequest, sample: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "mongodb":
        with in_mongo(sample) as found:
            yield found
        return
    with redis(tmp_path_factory.mktemp("redis")) as url:
        in_redis = InRedis(sample, url)
        with closing(in_redis.client):
            yield in_redis


def begun(served: Served, sid: str) -> socket.socket:
    """Send a handshake, and await nothing."""
    found = socket.create_connection(("127.0.0.1", served.port), timeout=15)
    request = f"GET /chat/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {NAME}={sid}\r\n\r\n"
    found.sendall(request.encode())
    return found


def test_a_storm_sends_a_tenth_of_the_queries(store: Store) -> None:
    sids = [f"sid-{number}" for number in range(STORM)]
    for sid in sids:
        store.save(sid, msgspec.msgpack.encode(CAROL))
    with host_app(store.config) as served, ExitStack() as stack:
        before = store.queries()
        for sid in sids:
            stack.enter_context(begun(served, sid))
        until(lambda: metric(served, "repo_notify_sessions_total", outcome="user") == STORM)
        assert store.queries() - before <= STORM / 10


def cookies() -> dict[str, str]:
    signed = Signer(SECRET, salt="flask-session", key_derivation="hmac").sign("good").decode()
    return {
        "somebody": f"{NAME}=good",
        "among others": f"a=b; {NAME}=good; {NAME}x=c",
        "as JSON": f"{NAME}=json",
        "ran out": f"{NAME}=late",
        "deleted": f"{NAME}=deleted",
        "empty": f"{NAME}=",
        "in quotes": f'{NAME}="good"',
        "odd": f"{NAME}=a b%00",
        "none": "a=b",
        "signed": f"{NAME}={signed}",
        "signed by another": f"{NAME}={signed}x",
    }


@pytest.mark.parametrize("options", [{}, {"SESSION_USE_SIGNER": True}, {"SESSION_SERIALIZATION_FORMAT": "json"}])
@pytest.mark.filterwarnings("ignore:The 'use_signer' option is deprecated:DeprecationWarning")
def test_a_cookie_is_judged_as_flask_session_judges_it(store: Store, options: dict[str, Any]) -> None:
    store.save("good", msgspec.msgpack.encode(CAROL))
    store.save("json", msgspec.json.encode(CAROL))
    store.save("late", msgspec.msgpack.encode(CAROL), seconds=-1)
    app = Flask(__name__)
    store.use(app)
    app.config.update(options)
    Session(app)
    ours = HandshakeSessions(app)
    somebody = 0
    for case, header in cookies().items():
        environ = {**create_environ("/chat/"), "HTTP_COOKIE": header}

        def theirs(environ: Mapping[str, Any] = environ) -> tuple[dict[str, Any], Any]:
            with app.request_context(dict(environ)):
                current: Any = session
                return dict(current), current.sid

        found: Any = ours.open(environ)
        values, sid = copy_context().run(theirs)
        assert dict(found) == values, case
        # One that is not there gets an id that nobody has had.
        assert not values.get("user") or found.sid == sid, case
        somebody += "user" in values
    assert somebody >= 1


def test_one_session_that_cannot_be_read_is_not_the_others_trouble(store: Store) -> None:
    store.save("good", msgspec.msgpack.encode(CAROL))
    store.save("bad", b"\xc1 neither of the formats")
    app = Flask(__name__)
    store.use(app)
    Session(app)
    ours = HandshakeSessions(app)
    found = {sid: {**create_environ("/chat/"), "HTTP_COOKIE": f"{NAME}={sid}"} for sid in ("good", "bad")}
    with pytest.raises(Exception, match=r".") as raised:
        ours.open(found["bad"])
    assert not isinstance(raised.value, ReadFailed)
    assert dict(ours.open(found["good"]) or {}) == CAROL


def test_while_the_store_is_silent_nobody_is_anybody_and_then_everybody(sample: str) -> None:
    with in_mongo(sample) as store, MongoProxy(sample) as database:
        store.save("good", msgspec.msgpack.encode(CAROL))
        config = {
            **store.config,
            "REPO_NOTIFY_MONGO_URI": database.uri,
            "REPO_NOTIFY_PERMISSION_TIMEOUT": 0.7,
            "REPO_NOTIFY_CHANGE_STREAMS": False,
        }
        with host_app(config) as served, ExitStack() as stack:
            database.hold_collection(COLLECTION)
            clients = [stack.enter_context(closing(ChatClient(served.url, cookie=f"{NAME}=good"))) for _ in range(5)]
            assert clients[0].ask("join", NOTIFICATIONS)["code"] == "SERVICE_UNAVAILABLE"
            assert metric(served, "repo_notify_sessions_total", outcome="store_error") >= 5
            database.release()
            until(lambda: all(client.ask("join", NOTIFICATIONS).get("event") == "success" for client in clients))


@pytest.fixture
def in_threads(serve_host: Callable[..., Served], store: Store) -> Served:
    return serve_host(**store.config, PATCH=False, REPO_NOTIFY_ASYNC_MODE="threading")


def test_on_threads(in_threads: Served, store: Store) -> None:
    store.save("good", msgspec.msgpack.encode(CAROL))
    with closing(ChatClient(in_threads.url, cookie=f"{NAME}=good")) as client:
        assert client.ask("join", NOTIFICATIONS)["event"] == "success"
    with closing(ChatClient(in_threads.url, cookie=f"{NAME}=gone")) as client:
        assert client.ask("join", NOTIFICATIONS)["code"] == "UNAUTHORISED"
