"""Sessions of an Express app: its cookies, its store, and what is wrong with either (spec section 11)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import pytest
import requests
from bson import Binary
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient

from repo_notify import RepoNotify
from repo_notify.serving import state_of
from repo_notify.sessions.bindings import Identity
from repo_notify.sessions.express import MAX_COOKIE_LENGTH, signed_id
from tests.conftest import ENGINES, host_defaults
from tests.support.chat import ChatClient
from tests.support.express import COOKIE, SECRET, ExpressStore, cookie, sign
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.ports import free_port
from tests.support.raw import RawSocket
from tests.support.served import Served, host_app
from tests.support.service import command, service, service_environment
from tests.support.until import until

NOTIFICATIONS = {"notifications": True}
NOBODY = "UNAUTHORISED"
# Two seconds; a busy machine gets another.
SECONDS = 3.0


@pytest.fixture
def store(mongo: MongoClient[dict[str, Any]], sample: str) -> Iterator[ExpressStore]:
    made = ExpressStore(mongo)
    yield made
    made.drop()


@pytest.fixture(params=ENGINES)
def served(request: pytest.FixtureRequest, serve_host: Callable[..., Served], store: ExpressStore) -> Served:
    return serve_host(**store.config, **ENGINES[request.param])


def answer(served: Served, header: str) -> dict[str, Any]:
    """Join the own notifications with that cookie; return the reply."""
    with closing(ChatClient(served.url, cookie=header)) as client:
        reply: dict[str, Any] = client.ask("join", NOTIFICATIONS)
        return reply


def until_accepted(served: Served, number: int) -> None:
    """Wait until the service has that many handshakes, read or not."""
    until(lambda: metric(served, "repo_notify_handshakes_total", outcome="accepted") == number)


def begun(served: Served, header: str) -> socket.socket:
    """Send a handshake, and await nothing."""
    found = socket.create_connection(("127.0.0.1", served.port), timeout=15)
    request = f"GET /chat/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {header}\r\n\r\n"
    found.sendall(request.encode())
    return found


def is_somebody(served: Served, header: str) -> bool:
    reply = answer(served, header)
    is_success = bool(reply.get("event") == "success")
    assert is_success or reply.get("code") == NOBODY, reply
    return is_success


def test_the_signature_is_that_of_cookie_signature() -> None:
    # From that package's own tests.
    value = "hello.DGDUkGlIkCzPz+C0B064FNgHdEjox7ch8tOBGslZ5QI"
    assert sign("hello", "tobiiscool") == value
    assert signed_id(f"s:{value}", ["tobiiscool"]) == "hello"
    assert signed_id(quote(f"s:{value}", safe=""), ["other", "tobiiscool"]) == "hello"
    assert signed_id(f"s:{value}", ["luna"]) is None
    assert signed_id(f"s:{value}=", ["tobiiscool"]) is None


IDS = ("plain", "+ / =", "a+b/c==", "with.dots.in.it", "s:s:", "ünïcode", "%41")


@pytest.mark.parametrize("session_id", IDS)
def test_an_id_may_hold_what_is_encoded(session_id: str) -> None:
    value = cookie(session_id).partition("=")[2]
    assert signed_id(value, [SECRET]) == session_id
    assert signed_id(f'"{value}"', [SECRET]) == session_id


VALUE = cookie("some id").partition("=")[2]
WRONG_VALUES = {
    "empty": "",
    "prefix alone": "s:",
    "no signature": "s:some id",
    "an empty signature": "s:some id.",
    "an empty id": f"s:{sign('')}",
    "no prefix": sign("some id"),
    "another key's": cookie("some id", "other").partition("=")[2],
    "cut short": VALUE[:-1],
    "too long": f"s:{sign('x' * MAX_COOKIE_LENGTH)}",
    "percent signs": "%" * MAX_COOKIE_LENGTH,
    "no UTF-8": f"s%3A%ff{sign('x')}",
    "not ASCII": f"s:{sign('ü')}",
    "an id with NUL": quote(f"s:{sign(chr(0))}"),
}


@pytest.mark.parametrize("value", WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_cookie_that_is_none(value: str) -> None:
    assert signed_id(value, [SECRET]) is None


@given(st.text(max_size=60), st.integers(0, 120), st.integers(0, 20))
def test_whatever_is_changed_in_a_cookie(text: str, at: int, cut: int) -> None:
    changed = VALUE[:at] + text + VALUE[at + cut :]
    assert signed_id(changed, [SECRET]) in (None, "some id")


def test_whoever_is_in_the_document_or_its_json(served: Served, store: ExpressStore) -> None:
    user = {"user": {"username": "carol"}, "cookie": {"originalMaxAge": 1}}
    for session_id in (
        store.log_in("carol"),
        store.save_as_json(user),
        store.log_in("carol", seconds=None),
        store.log_in("carol", expires=None),
        store.log_in("carol", session_id="a+/=.b"),
    ):
        assert is_somebody(served, f"other=1; {cookie(session_id)}"), session_id
    assert metric(served, "repo_notify_sessions_total", outcome="user") == 5


def test_the_query_counts_where_no_cookie_does(served: Served, store: ExpressStore) -> None:
    value = cookie(store.log_in("carol")).partition("=")[2]
    nobody = cookie(store.save({}))
    with RawSocket.connect(served.url, query=f"&{COOKIE}={value}") as old:
        old.send('40')
        until(lambda: metric(served, "repo_notify_sessions_total", outcome="user") == 1)
    with RawSocket.connect(served.url, cookie=nobody, query=f"&{COOKIE}={value}") as old:
        old.send('40')
        until(lambda: metric(served, "repo_notify_sessions_total", outcome="none") == 1)
    assert metric(served, "repo_notify_sessions_total", outcome="user") == 1


def test_several_secrets(serve_host: Callable[..., Served], store: ExpressStore) -> None:
    served = serve_host(**{**store.config, "REPO_NOTIFY_EXPRESS_SECRET": f"new one, {SECRET}"})
    session_id = store.log_in("carol")
    assert is_somebody(served, cookie(session_id))
    assert is_somebody(served, cookie(session_id, "new one"))
    assert not is_somebody(served, cookie(session_id, f"new one, {SECRET}"))


def test_a_session_that_has_run_out_is_none(served: Served, store: ExpressStore) -> None:
    assert not is_somebody(served, cookie(store.log_in("carol", seconds=-1)))
    assert not is_somebody(served, cookie("not there"))
    assert metric(served, "repo_notify_sessions_total", outcome="expired") == 2


def broken(mongo: MongoClient[dict[str, Any]], store: ExpressStore) -> list[str]:
    """Store what no session should look like; return the ids."""
    odd_users: list[Any] = [None, "carol", ["carol"], 3, {}, {"username": None}, {"username": ""}, {"username": 3}]
    odd_users += [{"username": ["carol"]}, {"username": {"$ne": None}}, {"username": Binary(b"carol")}]
    made = [store.save({"user": user}) for user in odd_users]
    made += [store.save_as_json(text) for text in ("", "{", "null", "[]", '"carol"', "[" * 100_000, '{"user":')]
    odd_sessions: list[Any] = [None, 3, [], ["user"], {}, True]
    made += [store.save(session) for session in odd_sessions]
    made.append(store.insert({"_id": "without a session"}))
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    odd_dates: list[Any] = ["2999-01-01", 3, [later], {"$gt": later}, False]
    made += [store.log_in("carol", expires=expires) for expires in odd_dates]
    return made


def test_what_cannot_be_a_session_is_nobodys(
    mongo: MongoClient[dict[str, Any]], sample: str, store: ExpressStore, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    config = {**host_defaults(sample), **store.config}
    with log.open("w") as errors, host_app(config, stderr=errors.fileno()) as served:
        session_ids = broken(mongo, store)
        headers = [cookie(session_id) for session_id in session_ids]
        headers += [f"{COOKIE}={value}" for value in WRONG_VALUES.values() if value.isascii()]
        headers += [cookie(session_id, "another's") for session_id in session_ids]
        headers += [cookie(store.log_in("carol"), name="session")] * 3
        for header in headers:
            assert not is_somebody(served, header), header[:200]
        good = store.log_in("carol")
        assert is_somebody(served, cookie(good))
    text = log.read_text()
    assert "Traceback" not in text
    assert text.count("is not signed with REPO_NOTIFY_EXPRESS_SECRET") == 1
    assert text.count("a stored session cannot be read") == 1
    assert text.count("in the cookie 'session', but SESSION_COOKIE_NAME is 'connect.sid'") == 1
    assert SECRET not in text
    assert good not in text


def test_one_document_that_cannot_be_decoded_is_not_the_others_trouble(sample: str, store: ExpressStore) -> None:
    with MongoProxy(sample) as database:
        with host_app({**host_defaults(sample), **store.config, "REPO_NOTIFY_MONGO_URI": database.uri}) as served:
            bad, good = store.log_in("dave", more="gar" "bled"), store.log_in("carol")
            database.garbled.add(b"dave")
            # Both are read in one query behind the one that is held.
            database.hold_collection(store.name)
            replies: dict[str, Any] = {}

            def ask(session_id: str) -> None:
                replies[session_id] = answer(served, cookie(session_id))

            threads = [threading.Thread(target=ask, args=(session_id,)) for session_id in ("nobody's", bad, good)]
            for number, thread in enumerate(threads, 1):
                thread.start()
                until_accepted(served, number)
            database.release()
            for thread in threads:
                thread.join()
        assert replies[good].get("event") == "success"
        assert replies[bad].get("code") == NOBODY
        assert database.finds[store.name] <= 3


def test_reads_that_arrive_together_are_one_query(sample: str, store: ExpressStore) -> None:
    number = 300
    headers = [cookie(store.log_in("carol")) for _ in range(number)]
    with MongoProxy(sample) as database, ExitStack() as stack:
        config = {**host_defaults(sample), **store.config, "REPO_NOTIFY_MONGO_URI": database.uri}
        served = stack.enter_context(host_app(config))
        assert is_somebody(served, cookie(store.log_in("carol")))
        before = database.finds[store.name]
        database.hold_collection(store.name)
        for header in headers:
            stack.enter_context(begun(served, header))
        until_accepted(served, number + 1)
        database.release()
        until(lambda: metric(served, "repo_notify_sessions_total", outcome="user") == number + 1)
        # What looks for sessions that have ended asks, too.
        assert database.finds[store.name] - before <= 20


def test_a_session_counts_that_was_read_while_the_service_was_busy(sample: str, store: ExpressStore) -> None:
    header = cookie(store.log_in("carol"))
    with MongoProxy(sample) as database, ExitStack() as stack:
        config = {**host_defaults(sample), **store.config, "REPO_NOTIFY_MONGO_URI": database.uri}
        served = stack.enter_context(host_app({**config, "REPO_NOTIFY_PERMISSION_TIMEOUT": 1.0}))
        assert is_somebody(served, header)
        database.hold_collection(store.name)
        stack.enter_context(begun(served, header))
        assert database.asked.wait(SECONDS)
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(requests.get, served.url + "/busy?seconds=2", timeout=SECONDS)
            # Not before it has begun.
            threading.Event().wait(0.2)
            database.release()
            busy.result().raise_for_status()
        until(lambda: metric(served, "repo_notify_sessions_total", outcome="user") == 2)
        assert metric(served, "repo_notify_sessions_total", outcome="store_error") == 0


def test_a_session_that_is_deleted_or_runs_out_ends(served: Served, store: ExpressStore) -> None:
    gone, short, kept = store.log_in("carol"), store.log_in("dave"), store.log_in("carol")
    with (
        closing(ChatClient(served.url, cookie=cookie(gone))) as one,
        closing(ChatClient(served.url, cookie=cookie(short))) as two,
        closing(ChatClient(served.url, cookie=cookie(kept))) as three,
    ):
        for client in (one, two, three):
            client.join(NOTIFICATIONS)
        started = monotonic()
        store.delete(gone)
        store.log_in("dave", session_id=short, seconds=0.3)
        for client in (one, two):
            assert client.hear_event("loggedOut") == {"reason": "Your session has ended"}
        assert monotonic() - started < SECONDS
        assert one.ask("join", NOTIFICATIONS)["code"] == NOBODY
        assert three.ask("join", NOTIFICATIONS)["event"] == "success"


def test_while_the_store_is_silent_nobody_is_anybody_and_then_everybody(sample: str, store: ExpressStore) -> None:
    config = {
        **host_defaults(sample),
        **store.config,
        "REPO_NOTIFY_PERMISSION_TIMEOUT": 0.7,
        "REPO_NOTIFY_CHANGE_STREAMS": False,
    }
    with MongoProxy(sample) as database, host_app({**config, "REPO_NOTIFY_MONGO_URI": database.uri}) as served:
        headers = [cookie(store.log_in("carol")) for _ in range(5)]
        database.hold_collection(store.name)
        clients = [ChatClient(served.url, cookie=header) for header in headers]
        try:
            assert clients[0].ask("join", NOTIFICATIONS)["code"] == "SERVICE_UNAVAILABLE"
            assert metric(served, "repo_notify_sessions_total", outcome="store_error") >= 5
            database.release()
            until(lambda: all(client.ask("join", NOTIFICATIONS).get("event") == "success" for client in clients))
        finally:
            for client in clients:
                client.close()


def test_a_session_by_its_id(sample: str, store: ExpressStore) -> None:
    app = Flask(__name__)
    app.config.update({**host_defaults(sample), **store.config, "REPO_NOTIFY_ASYNC_MODE": "threading"})
    notify = RepoNotify(app)
    express = state_of(app).express
    assert express is not None
    session_id = store.log_in("carol")
    assert express.identity(session_id) == Identity("carol", session_id)
    for other in ("", "\x00", "\ud800", "x" * 5_000, "not there", store.save({}), store.log_in("carol", seconds=-1)):
        assert express.identity(other) is None
    notify.close(app)


def test_on_threads(serve_host: Callable[..., Served], store: ExpressStore) -> None:
    served = serve_host(**store.config, PATCH=False, REPO_NOTIFY_ASYNC_MODE="threading")
    assert is_somebody(served, cookie(store.log_in("carol")))
    assert not is_somebody(served, cookie(store.log_in("carol", seconds=-1)))


def test_the_standalone_service_needs_no_secret_key(sample: str, store: ExpressStore) -> None:
    port = free_port()
    environ = service_environment(
        sample,
        REPO_NOTIFY_EXPRESS_SECRET=SECRET,
        REPO_NOTIFY_EXPRESS_SESSIONS=store.config["REPO_NOTIFY_EXPRESS_SESSIONS"],
    )
    del environ["SECRET_KEY"]
    with service(command("serve", port), environ, port) as served:
        assert is_somebody(served, cookie(store.log_in("carol")))
        assert not is_somebody(served, cookie(store.log_in("carol"), "another's"))
