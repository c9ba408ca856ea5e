"""A session that ends in its store ends on its sockets within two seconds (spec section 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from time import monotonic
from typing import Any, Protocol
from urllib.parse import unquote

import pytest
from pymongo import MongoClient
from redis import Redis

from tests.support.brokers import redis
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.served import Served, User
from tests.support.until import until

NOTIFICATIONS = {"notifications": True}
ENDED = {"reason": "Your session has ended"}
# Two seconds; a busy machine gets another.
SECONDS = 3.0


class Store(Protocol):
    """A session store as its operator sees it; a session's key is its id with a prefix."""

    config: dict[str, Any]

    def delete(self, key: str) -> None:
        """Delete a session."""

    def expire(self, key: str, seconds: float) -> None:
        """Let a session run out after so many seconds, past ones included."""


class InMongo:
    def __init__(self, uri: str) -> None:
        self.config = {"SESSIONS": "mongodb", "SESSION_MONGODB_DB": "admin", "SESSION_MONGODB_COLLECT": "some_sessions"}
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self._sessions = self._client["admin"]["some_sessions"]

    def delete(self, key: str) -> None:
        assert self._sessions.delete_one({"id": key}).deleted_count == 1

    def expire(self, key: str, seconds: float) -> None:
        at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        assert self._sessions.update_one({"id": key}, {"$set": {"expiration": at}}).matched_count == 1

    def close(self) -> None:
        self._client.close()


class InRedis:
    def __init__(self, url: str) -> None:
        self.config = {"SESSIONS": "redis", "REDIS_OF_SESSIONS": url}
        self._client = Redis.from_url(url)

    def delete(self, key: str) -> None:
        assert self._client.delete(key) == 1

    def expire(self, key: str, seconds: float) -> None:
        assert self._client.pexpire(key, max(1, round(seconds * 1000)))

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module", params=["mongodb", "redis"])
def store(request: pytest.FixtureRequest, sample: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "mongodb":
        with closing(InMongo(sample)) as found:
            yield found
        return
    with redis(tmp_path_factory.mktemp("redis")) as url, closing(InRedis(url)) as in_redis:
        yield in_redis


def key_of(user: User) -> str:
    return "session:" + unquote(user.cookie.partition("=")[2])


@pytest.fixture
def served(serve_host: Callable[..., Served], store: Store) -> Served:
    return serve_host(**store.config)


def connected(served: Served, user: User) -> ChatClient:
    client = ChatClient(served.url, cookie=user.cookie)
    client.join(NOTIFICATIONS)
    return client


def test_a_deleted_session_ends_on_its_sockets_and_on_no_other(served: Served, store: Store) -> None:
    gone, kept = User(served).log_in("carol"), User(served).log_in("carol")
    with closing(connected(served, gone)) as one, closing(connected(served, kept)) as other:
        started = monotonic()
        store.delete(key_of(gone))
        assert one.hear_event("loggedOut") == ENDED
        assert monotonic() - started < SECONDS
        assert one.ask("join", NOTIFICATIONS)["code"] == "UNAUTHORISED"
        assert other.ask("join", NOTIFICATIONS)["event"] == "success"
        assert metric(served, "repo_notify_sessions_ended_total", cause="store") == 1
        # The socket is free for the next login.
        User(served).log_in("dave", one.id)
        assert one.ask("join", NOTIFICATIONS)["event"] == "success"


def test_a_session_ends_when_it_runs_out_and_one_that_was_prolonged_goes_on(served: Served, store: Store) -> None:
    gone, kept = User(served).log_in("carol"), User(served).log_in("dave")
    with closing(connected(served, gone)) as one, closing(connected(served, kept)) as other:
        store.expire(key_of(kept), 0.5)
        store.expire(key_of(kept), 60)
        store.expire(key_of(gone), 0.2)
        assert one.hear_event("loggedOut") == ENDED
        assert other.ask("join", NOTIFICATIONS)["event"] == "success"


def test_the_publishers_own_word_comes_first_and_alone(served: Served, store: Store) -> None:
    user = User(served).log_in("carol")
    with closing(connected(served, user)) as client:
        session_id = user.http.get(served.url + "/session", timeout=5).json()["session_id"]
        store.delete(key_of(user))
        User(served).publish("SessionsEnded", session_ids=[session_id], reason="You have logged in else where")
        assert client.hear_event("loggedOut") == {"reason": "You have logged in else where"}
        # Another session's end shows that the store was looked at meanwhile.
        second = User(served).log_in("dave")
        with closing(connected(served, second)) as other:
            store.delete(key_of(second))
            other.hear_event("loggedOut")
        assert client.heard_so_far() == []


def test_an_outage_of_the_store_ends_nobody(sample: str, serve_host: Callable[..., Served]) -> None:
    with MongoProxy(sample) as database:
        served = serve_host(
            SESSIONS="mongodb",
            REPO_NOTIFY_MONGO_URI=database.uri,
            REPO_NOTIFY_PERMISSION_TIMEOUT=0.5,
            REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2,
            REPO_NOTIFY_CHANGE_STREAMS=False,
        )
        user = User(served).log_in("carol")
        with closing(connected(served, user)) as client:
            database.hold()
            # Each waits until it is given up.
            asked = database.finds["sessions"]
            until(lambda: database.finds["sessions"] >= asked + 3)
            database.release()
            assert client.ask("join", NOTIFICATIONS)["event"] == "success"
            assert metric(served, "repo_notify_sessions_ended_total") == 0
