"""Publishing over a connection that is kept open: who may, what is taken, what is acknowledged (spec section 5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import socketio
from flask_socketio import SocketIO
from websocket import WebSocketBadStatusException

from repo_notify import RepoNotify
from repo_notify.demo.seed import STRUCTURE, TOWER
from repo_notify.metrics import Metrics
from repo_notify.settings import read
from repo_notify.testing.client import Client
from repo_notify.testing.websocket import Closed
from repo_notify.web.publishing import Publishing
from tests.conftest import ENGINES, host_defaults
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.publishers import NAMESPACE, NOTHING, Ended, Publisher, Refused
from tests.support.served import SECONDS, Served, User, host_app
from tests.test_extension import make_app
from tests.test_logs import mounted

KEY = "a key of the tests'"
LIMIT = 50_000
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
EVENT: dict[str, Any] = {"type": "TicketUpdated", **ROOM, "kind": "container", "data": {"_id": "t"}}
HEARD = "containerUpdateTicket"
SETTINGS: dict[str, Any] = {"REPO_NOTIFY_API_KEY": KEY, "REPO_NOTIFY_MAX_EVENT_BYTES": LIMIT}
NO_EVENT_TEXT = "the one event here is `publish`, with one argument: an event or an array of events"
NO_EVENT = {"errors": [{"message": NO_EVENT_TEXT}]}


@pytest.fixture(scope="module")
def own(sample: str) -> Iterator[Served]:
    with host_app({**host_defaults(sample), **SETTINGS}) as served:
        yield served


@pytest.fixture(scope="module")
def threaded(sample: str) -> Iterator[Served]:
    options = {"PATCH": False, "REPO_NOTIFY_ASYNC_MODE": "threading"}
    with host_app({**host_defaults(sample), **SETTINGS, **options}) as served:
        yield served


@pytest.fixture(scope="module")
def stock(sample: str) -> Iterator[Served]:
    with host_app({**host_defaults(sample), **SETTINGS, **ENGINES["stock"]}) as served:
        yield served


@pytest.fixture(params=["own", "threaded", "stock"])
def server(request: pytest.FixtureRequest) -> Served:
    found: Served = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def publisher(server: Served) -> Iterator[Publisher]:
    with Publisher(server.url, {"key": KEY}) as publisher:
        yield publisher


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{**EVENT, "data": {"n": number}} for number in numbers]


def numbers_of(member: ChatClient, count: int) -> list[int]:
    return [member.hear_event(HEARD)["data"]["n"] for _ in range(count)]


def test_one_event_and_an_array(publisher: Publisher, member: ChatClient) -> None:
    assert publisher.publish(EVENT) == {"accepted": 1}
    assert member.hear_event(HEARD) == {**ROOM, "data": {"_id": "t"}}
    assert publisher.publish(numbered(*range(100))) == {"accepted": 100}
    assert numbers_of(member, 100) == list(range(100))
    assert publisher.publish([]) == {"accepted": 0}


def test_both_generations_hear_it(own: Served, chat: Callable[..., ChatClient]) -> None:
    pytest.importorskip("legacy_v4")
    cookie = User(own).log_in("carol").cookie
    member = chat(own.url, cookie=cookie)
    member.join(ROOM)
    issue = {"type": "IssuesCreated", "teamspace": "acme", "model": STRUCTURE, "issues": [{"_id": "i"}]}
    with Client(own.url, cookie=cookie, generation="v4") as old, Publisher(own.url, {"key": KEY}) as publisher:
        old.join(account="acme", model=STRUCTURE)
        assert publisher.publish([EVENT, issue]) == {"accepted": 2}
        assert old.wait_for(f"acme::{STRUCTURE}::newIssues") == [{"_id": "i"}]
    assert member.hear_event(HEARD) == {**ROOM, "data": {"_id": "t"}}


def test_a_thousand_in_a_row_are_published_in_order(publisher: Publisher, member: ChatClient) -> None:
    asked = [publisher.send("publish", event) for event in numbered(*range(1_000))]
    assert [publisher.acknowledged(number) for number in asked] == [{"accepted": 1}] * 1_000
    assert numbers_of(member, 1_000) == list(range(1_000))


def test_more_than_wait_their_turn_at_most(own: Served, chat: Callable[..., ChatClient]) -> None:
    """Beyond 1,000 that wait the connection is not read on; nothing is lost or out of order by it."""
    member = chat(own.url, cookie=User(own).log_in("carol").cookie)
    member.join(ROOM)
    with Publisher(own.url, {"key": KEY}) as publisher:
        for event in numbered(*range(3_000)):
            publisher.tell(event)
        assert publisher.publish(EVENT) == {"accepted": 1}
    assert numbers_of(member, 3_000) == list(range(3_000))


def test_without_an_acknowledgement(publisher: Publisher, member: ChatClient) -> None:
    publisher.tell(EVENT)
    assert member.hear_event(HEARD) == {**ROOM, "data": {"_id": "t"}}


def test_nothing_of_a_bad_array_is_published_and_each_mistake_is_told(
    publisher: Publisher, member: ChatClient
) -> None:
    assert publisher.publish([EVENT, {**EVENT, "kind": "house"}, EVENT, {**EVENT, "more": 1}]) == {
        "errors": [
            {"index": 1, "fields": {"kind": "one of container, federation"}},
            {"index": 3, "fields": {"more": "no such field"}},
        ]
    }
    assert member.heard_so_far() == []


def test_more_than_a_thousand_are_too_many(publisher: Publisher, member: ChatClient) -> None:
    found = publisher.publish([{}] * 1_001)
    assert found == {"errors": [{"message": "an array should hold at most 1000 events"}]}


@pytest.mark.parametrize("argument", [None, 3, "x", True, [3], [[]], {}, [{}], {"type": {"$gt": ""}}])
def test_what_is_no_event(publisher: Publisher, argument: Any) -> None:
    (error,) = publisher.publish(argument)["errors"]
    assert error["index"] == 0
    assert list(error["fields"]) in ([""], ["type"])


@pytest.mark.parametrize("arguments", [[], [EVENT, EVENT], [EVENT, None]])
def test_another_number_of_arguments(publisher: Publisher, member: ChatClient, arguments: list[Any]) -> None:
    assert publisher.publish(*arguments) == NO_EVENT
    assert member.heard_so_far() == []


@pytest.mark.parametrize("event", ["Publish", "join", "events", "__proto__", ""])
def test_another_event(publisher: Publisher, event: str) -> None:
    assert publisher.ask(event, EVENT) == NO_EVENT
    assert publisher.publish(EVENT) == {"accepted": 1}


@pytest.mark.parametrize("event", ["connect", "disconnect", "*", 3])
def test_names_that_mean_something_to_a_server(own: Served, event: Any) -> None:
    with Publisher(own.url, {"key": KEY}) as publisher:
        assert publisher.ask(event, EVENT) == NO_EVENT
        assert publisher.publish(EVENT) == {"accepted": 1}


def test_data_that_is_nested_too_deeply(publisher: Publisher, member: ChatClient) -> None:
    deep: Any = 1
    for _ in range(250):
        deep = {"a": deep}
    (error,) = publisher.publish({**EVENT, "data": deep})["errors"]
    assert list(error["fields"]) == ["data"]
    assert member.heard_so_far() == []


@pytest.mark.parametrize(
    "packet", ['["publish",{"n":NaN}]', '["publish",' + "[" * 2_000 + "]" * 2_000 + "]", '["publish"', "{}", '[null]']
)
def test_what_is_no_packet_ends_the_connection(own: Served, packet: str) -> None:
    with Publisher(own.url, {"key": KEY}) as publisher:
        publisher.send_text(f"42{NAMESPACE},1{packet}")
        with pytest.raises(Ended):
            publisher.receive()


def test_nan_is_refused(stock: Served) -> None:
    with Publisher(stock.url, {"key": KEY}) as publisher:
        (error,) = publisher.publish({**EVENT, "data": {"n": float("nan")}})["errors"]
    assert list(error["fields"]) == ["data"]


def test_binary_values_go_out_as_they_came(publisher: Publisher, member: ChatClient) -> None:
    event = {**EVENT, "data": {"thumbnail": {"_placeholder": True, "num": 0}}}
    publisher.send_text(f"451-{NAMESPACE},7{json.dumps(['publish', event])}")
    publisher.send_binary(b"\x00\xff")
    assert publisher.acknowledged(7) == {"accepted": 1}
    assert member.hear_event(HEARD) == {**ROOM, "data": {"thumbnail": b"\x00\xff"}}


@pytest.mark.parametrize("attachment", [b"", b"x" * (LIMIT - 100)])
def test_a_message_over_the_limit(own: Served, chat: Callable[..., ChatClient], attachment: bytes) -> None:
    member = chat(own.url, cookie=User(own).log_in("carol").cookie)
    member.join(ROOM)
    with Publisher(own.url, {"key": KEY}) as publisher:
        if attachment:
            event = {**EVENT, "data": {"thumbnail": {"_placeholder": True, "num": 0}}}
            publisher.send_text(f"451-{NAMESPACE},0{json.dumps(['publish', event])}")
            publisher.send_binary(attachment)
        else:
            publisher.send("publish", {**EVENT, "data": {"_id": "x" * LIMIT}})
        message = f"a message should be of at most {LIMIT} bytes (REPO_NOTIFY_MAX_EVENT_BYTES)"
        assert publisher.acknowledged(0) == {"errors": [{"message": message}]}
        assert member.heard_so_far() == []


def test_a_message_at_the_limit(own: Served) -> None:
    with Publisher(own.url, {"key": KEY}) as publisher:
        # The packet counts without Engine.IO's digit.
        start = f"2{NAMESPACE},7{json.dumps(['publish', EVENT])}"
        for size, accepted in ((LIMIT, True), (LIMIT + 1, False)):
            publisher.send_text("4" + start + " " * (size - len(start)))
            assert ("accepted" in publisher.acknowledged(7)) is accepted


def test_a_message_over_the_servers_own_limit_ends_the_connection(own: Served) -> None:
    with Publisher(own.url, {"key": KEY}) as publisher:
        publisher.send("publish", {**EVENT, "data": {"_id": "x" * 262_144}})
        with pytest.raises(Ended) as ended:
            publisher.receive()
    assert ended.value.code == 1009


@pytest.mark.parametrize(
    "auth",
    [NOTHING, {}, {"key": None}, {"key": ""}, {"key": "wrong"}, {"key": [KEY]}, {"key": {"key": KEY}}, {"Key": KEY},
     {"key": f"Bearer {KEY}"}, {"key": KEY + "\x00"}, {"key": "\ud800"}, {"key": "é" * 1_000}, {"key": 3}],
    ids=lambda auth: ascii(auth)[:20],
)  # fmt: skip
def test_without_the_key(server: Served, auth: Any) -> None:
    with pytest.raises(Refused) as refused:
        Publisher(server.url, auth)
    assert refused.value.data == {"message": "auth should be {key: …} with the REPO_NOTIFY_API_KEY"}


@pytest.mark.parametrize("auth", [[KEY], KEY, 3, None, True])
def test_what_is_no_object_ends_the_connection(own: Served, auth: Any) -> None:
    with pytest.raises(Ended):
        Publisher(own.url, auth)


def test_who_was_refused_publishes_nothing(own: Served, chat: Callable[..., ChatClient]) -> None:
    member = chat(own.url, cookie=User(own).log_in("carol").cookie)
    member.join(ROOM)
    with Publisher(own.url, namespace="/") as connection:
        connection.send_text(f'40{NAMESPACE},{{"key":"wrong"}}')
        # Before the answer can have come.
        connection.send_text(f"42{NAMESPACE},1{json.dumps(['publish', EVENT])}")
        heard = [connection.receive() for _ in range(2)]
        assert heard[1].startswith(f'44{NAMESPACE},{{"message"')
        connection.send_text(f"42{NAMESPACE},1{json.dumps(['publish', EVENT])}")
        with pytest.raises(Ended):
            connection.receive()
    assert member.heard_so_far() == []


def test_a_users_cookie_gives_no_right_and_takes_none(server: Served) -> None:
    headers = {"Cookie": User(server).log_in("alice").cookie}
    with pytest.raises(Refused):
        Publisher(server.url, headers=headers)
    with Publisher(server.url, {"key": KEY}, headers=headers) as publisher:
        assert publisher.publish(EVENT) == {"accepted": 1}


def test_pages_of_other_origins_are_refused_as_everywhere(own: Served) -> None:
    with pytest.raises(WebSocketBadStatusException):
        Publisher(own.url, {"key": KEY}, headers={"Origin": "https://elsewhere.example"})


def test_while_no_key_is_set(any_host: Served) -> None:
    for auth in (NOTHING, {"key": None}, {"key": ""}, {"key": "None"}):
        with pytest.raises(Refused) as refused:
            Publisher(any_host.url, auth)
        assert refused.value.data == {"message": "publishing is off: REPO_NOTIFY_API_KEY is not set"}


def test_clients_of_engine_io_3_have_no_auth(own: Served) -> None:
    pytest.importorskip("legacy_v4")
    with pytest.raises(Closed, match="auth should be"):
        Client(own.url, generation="v4", namespace=NAMESPACE)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_stock_client(server: Served, member: ChatClient, transport: str) -> None:
    client = socketio.Client(reconnection=False)
    client.connect(
        server.url, auth={"key": KEY}, namespaces=[NAMESPACE], transports=[transport], socketio_path="chat",
        wait_timeout=SECONDS,
    )  # fmt: skip
    try:
        answer = client.call("publish", numbered(1, 2), namespace=NAMESPACE, timeout=SECONDS)
        assert answer == {"accepted": 2}
        assert numbers_of(member, 2) == [1, 2]
    finally:
        client.disconnect()


def test_publishers_are_no_members(own: Served, chat: Callable[..., ChatClient]) -> None:
    member = chat(own.url, cookie=User(own).log_in("carol").cookie)
    member.join(ROOM)
    with Publisher(own.url, {"key": KEY}) as publisher:
        assert list(publisher.answer) == ["sid"]
        assert publisher.ask("join", ROOM) == NO_EVENT
        for _ in range(3):
            # The next packet that it hears: no event, and no position.
            assert publisher.publish(EVENT) == {"accepted": 1}
        headers = {"Authorization": f"Bearer {KEY}"}
        rooms = requests.get(f"{own.url}/notify/rooms", headers=headers, timeout=SECONDS).json()
    assert [len(room["members"]) for room in rooms["rooms"]] == [1]


def test_the_emitter_does_not_hear_it(publisher: Publisher, member: ChatClient) -> None:
    publisher.publish([{**EVENT, "emitter": member.id}, EVENT])
    assert [name for name, _ in member.heard_so_far()] == [HEARD]


def test_requests_are_counted_as_those_over_http(serve_host: Callable[..., Served]) -> None:
    served = serve_host(REPO_NOTIFY_API_KEY=KEY, REPO_NOTIFY_MAX_EVENT_BYTES=1_000)
    with Publisher(served.url, {"key": KEY}) as publisher:
        for argument in (EVENT, {}, "x" * 2_000):
            publisher.publish(argument)
    with pytest.raises(Refused):
        Publisher(served.url, {"key": "wrong"})
    for status in ("202", "400", "401", "413"):
        assert metric(served, "repo_notify_publish_requests_total", status=status) == 1


def test_mistakes_that_nobody_is_told_of_are_logged_once_in_a_while(sample: str, tmp_path: Path) -> None:
    with mounted(tmp_path / "log", {**host_defaults(sample), **SETTINGS}) as (served, log):
        with Publisher(served.url, {"key": KEY}) as publisher:
            publisher.tell({**EVENT, "a\nline": 1})
            publisher.tell(numbered(1)[0] | {"kind": 1})
            publisher.publish(EVENT)
        for _ in range(2):
            with pytest.raises(Refused):
                Publisher(served.url, {"key": "not-to-be-logged"})
        assert log.having("refused with 400")[0].endswith('{"fields":{"a\\nline":"no such field"},"index":0}')
        assert [len(log.having(part)) for part in ("with 400", "with 401", "not-to-be-logged")] == [1, 1, 0]


def test_a_namespace_that_is_the_members_is_left_alone(
    sample: str, tmp_path: Path, chat: Callable[..., ChatClient]
) -> None:
    config = {**host_defaults(sample), **SETTINGS, "REPO_NOTIFY_NAMESPACE": NAMESPACE}
    with mounted(tmp_path / "log", config) as (served, log):
        assert log.having(f"the app has a namespace {NAMESPACE} of its own; repo_notify leaves it alone")
        member = chat(served.url, cookie=User(served).log_in("carol").cookie, namespace=NAMESPACE)
        assert member.ask("join", ROOM)["event"] == "success"


def test_a_namespace_of_the_hosts_own_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(**SETTINGS)
    socketio = SocketIO(app, async_mode="threading")
    handler = socketio.on("publish", namespace=NAMESPACE)(lambda _: "own")
    notify = RepoNotify(app, socketio=socketio)
    assert "of its own; repo_notify leaves it alone" in caplog.text
    assert list(socketio.server.handlers[NAMESPACE]) == ["publish"]
    assert handler(None) == "own"
    notify.close(app)


def test_what_fails_is_acknowledged_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: object) -> bool:
        raise OSError("no queue")

    publishing = Publishing(read(SETTINGS), fails, Metrics())
    assert "log of the service" in publishing.acknowledge("publish", [EVENT], None)["errors"][0]["message"]
    assert "no queue" in caplog.text
