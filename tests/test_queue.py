"""Several processes behind one message queue, over a real Redis and a real RabbitMQ (spec sections 2 and 5)."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests
from bson import Binary
from kombu import Connection, Exchange, Producer
from pymongo import MongoClient

from repo_notify import InvalidEvent, QueuePublisher, QueueUnavailable, SettingsError, events
from repo_notify.delivery.messages import CONTENT_TYPE
from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import host_defaults
from tests.support import brokers
from tests.support.chat import ChatClient
from tests.support.command import repo_notify
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.until import until

pytestmark = pytest.mark.slow

CHANNEL = "tests"
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
FIELDS: dict[str, Any] = {**ROOM, "kind": "container"}
Connect = Callable[..., ChatClient]


@dataclass(frozen=True)
class Pair:
    """Two processes of one service, and the queue between them."""

    queue: str
    here: Served
    there: Served


def ready(served: Served) -> requests.Response:
    return requests.get(served.url + "/notify/readyz", timeout=SECONDS)


def status(served: Served) -> str:
    return str(ready(served).json()["status"])


def until_ready(served: Served) -> None:
    until(lambda: status(served) == "ok", lambda: ready(served).text)


def queue_settings(queue: str, channel: str = CHANNEL) -> dict[str, Any]:
    return {"REPO_NOTIFY_MESSAGE_QUEUE": queue, "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": channel}


# Two processes that share a history need no queue but for programs outside.
SHARED = "shared history"


@pytest.fixture(scope="module", params=[*brokers.BROKERS, SHARED])
def pair(request: pytest.FixtureRequest, sample: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        kind = "redis" if request.param == SHARED else request.param
        queue = stack.enter_context(brokers.BROKERS[kind](tmp_path_factory.mktemp("broker")))
        config = {
            **host_defaults(sample),
            **queue_settings(queue),
            **({"REPO_NOTIFY_HISTORY": queue} if request.param == SHARED else {}),
            "REPO_NOTIFY_PERMISSION_CACHE_SECONDS": 60,
            # What the queue tells is to be seen alone.
            "REPO_NOTIFY_CHANGE_STREAMS": False,
        }
        here, there = (stack.enter_context(host_app(config)) for _ in range(2))
        for served in (here, there):
            until_ready(served)
        yield Pair(queue, here, there)


def listen(chat: Connect, served: Served, username: str = "carol") -> ChatClient:
    client = chat(served.url, cookie=User(served).log_in(username).cookie)
    client.join(ROOM)
    return client


def barrier(pair: Pair, chat: Connect) -> Callable[[], None]:
    """Return what waits until everything that `here` has sent before was carried out `there`."""
    name = f"barrier{uuid4().hex}"
    client = chat(pair.there.url, cookie=User(pair.there).log_in(name).cookie)
    client.join({"notifications": True})

    def wait() -> None:
        User(pair.here).publish("NotificationUpserted", username=name, data={})
        client.hear_event(f"{name}::notificationUpserted")

    return wait


def test_an_event_is_delivered_in_both_processes_in_order(pair: Pair, chat: Connect) -> None:
    clients = [listen(chat, served) for served in (pair.here, pair.there)]
    user = User(pair.here)
    for number in range(200):
        user.publish("TicketUpdated", **FIELDS, data={"n": number})
    for client in clients:
        assert [client.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(200)] == list(range(200))
        assert client.heard_so_far() == []


@pytest.mark.parametrize("user", ["dave", None])
def test_nobody_names_another_users_socket_as_emitter_wherever_it_is(
    pair: Pair, chat: Connect, user: str | None
) -> None:
    listener = listen(chat, pair.there)
    publisher = User(pair.here).log_in(user) if user else User(pair.here)
    publisher.publish("TicketUpdated", socket_id=listener.id, **FIELDS, data={"n": 1})
    assert listener.hear_event("containerUpdateTicket")["data"]["n"] == 1


def test_the_emitter_is_left_out_wherever_it_is(pair: Pair, chat: Connect) -> None:
    emitter, other = listen(chat, pair.there), listen(chat, pair.there, "alice")
    User(pair.here).log_in("carol").publish("TicketUpdated", socket_id=emitter.id, **FIELDS, data={"n": 1})
    User(pair.here).publish("TicketUpdated", **FIELDS, data={"n": 2})
    assert [other.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(2)] == [1, 2]
    assert emitter.hear_event("containerUpdateTicket")["data"]["n"] == 2


def test_a_request_binds_a_socket_of_the_other_process(pair: Pair, chat: Connect) -> None:
    client = chat(pair.there.url)
    wait = barrier(pair, chat)
    assert client.ask("join", ROOM)["code"] == "UNAUTHORISED"
    User(pair.here).log_in("carol", socket_id=client.id)
    wait()
    assert client.ask("join", ROOM)["event"] == "success"
    User(pair.here).log_in("mallory", socket_id=client.id)
    wait()
    assert client.ask("join", ROOM)["event"] == "success"


def test_the_end_of_a_session_is_heard_in_the_other_process(pair: Pair, chat: Connect) -> None:
    user = User(pair.here).log_in("carol")
    client = chat(pair.there.url, cookie=user.cookie)
    client.join(ROOM)
    same_user = listen(chat, pair.there)
    user.post("/logout").raise_for_status()
    assert client.hear_event("loggedOut") == {"reason": "You have been logged out"}
    User(pair.here).publish("TicketUpdated", **FIELDS, data={})
    same_user.hear_event("containerUpdateTicket")
    assert client.heard_so_far() == []
    assert client.ask("join", ROOM)["code"] == "UNAUTHORISED"


def test_binary_crosses_the_queue(pair: Pair, chat: Connect) -> None:
    client = listen(chat, pair.there)
    QueuePublisher(pair.queue, channel=CHANNEL).publish(
        events.TicketUpdated(**FIELDS, data={"image": b"\x00\xff", "list": [b"x"]})
    )
    assert client.hear_event("containerUpdateTicket")["data"] == {"image": b"\x00\xff", "list": [b"x"]}


def test_a_process_without_a_server_publishes(pair: Pair, chat: Connect) -> None:
    clients = [listen(chat, served) for served in (pair.here, pair.there)]
    publisher = QueuePublisher(pair.queue, channel=CHANNEL)
    publisher.publish(*(events.TicketUpdated(**FIELDS, data={"n": number}) for number in range(100)))
    publisher.publish(events.TicketUpdated(**FIELDS, data={"n": 100}, emitter=clients[0].id))
    assert [clients[0].hear_event("containerUpdateTicket")["data"]["n"] for _ in range(100)] == list(range(100))
    assert [clients[1].hear_event("containerUpdateTicket")["data"]["n"] for _ in range(101)] == list(range(101))
    assert clients[0].heard_so_far() == []


def test_a_wrong_event_keeps_all_from_being_published(pair: Pair, chat: Connect) -> None:
    client = listen(chat, pair.there)
    publisher = QueuePublisher(pair.queue, channel=CHANNEL)
    with pytest.raises(InvalidEvent, match="data: an object"):
        publisher.publish(
            events.TicketUpdated(**FIELDS, data={}),
            events.TicketUpdated(**FIELDS, data=3),  # type: ignore[arg-type]  # wrong on purpose
        )
    publisher.publish(events.TicketUpdated(**FIELDS, data={"n": 1}))
    assert client.hear_event("containerUpdateTicket")["data"] == {"n": 1}


def test_the_shell_publishes_through_the_queue(pair: Pair, chat: Connect) -> None:
    client = listen(chat, pair.there)
    event = {"type": "TicketUpdated", **FIELDS, "data": {"n": 1}}
    done = repo_notify("publish", "--queue", pair.queue, "--channel", CHANNEL, text=json.dumps(event))
    said = "published 1 event to the message queue, which does not tell who listens\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr
    assert client.hear_event("containerUpdateTicket")["data"] == {"n": 1}


def test_data_crosses_the_queue_unchanged(pair: Pair, chat: Connect) -> None:
    client = listen(chat, pair.there)
    data = {"decimal": {"__type__": "decimal", "__value__": "1.5"}, "own": {"m": 0, "marker": "m"}, "text": "ü\u2028"}
    User(pair.here).publish("TicketUpdated", **FIELDS, data=data)
    assert client.hear_event("containerUpdateTicket")["data"] == data


def test_an_event_that_cannot_be_encoded_stops_nothing(pair: Pair, chat: Connect) -> None:
    client = listen(chat, pair.there)
    publisher = QueuePublisher(pair.queue, channel=CHANNEL)
    with pytest.raises(InvalidEvent, match="TicketUpdated: data: a value that can be sent"):
        publisher.publish(events.TicketUpdated(**FIELDS, data={"n": 10**5000}))
    publisher.publish(events.TicketUpdated(**FIELDS, data={"n": 1}))
    assert client.hear_event("containerUpdateTicket")["data"] == {"n": 1}


def test_another_channel_is_another_service(pair: Pair, chat: Connect) -> None:
    client = listen(chat, pair.there)
    QueuePublisher(pair.queue, channel="others").publish(events.TicketUpdated(**FIELDS, data={"n": 1}))
    QueuePublisher(pair.queue, channel=CHANNEL).publish(events.TicketUpdated(**FIELDS, data={"n": 2}))
    assert client.hear_event("containerUpdateTicket")["data"] == {"n": 2}


OURS: dict[str, Any] = {"v": 1, "origin": "another", "number": 1, "kind": "event", "content": {}}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-python-serialize", pickle.dumps({"what": "event"})),
        ("application/json", b"{}"),
        (None, b"x"),
        *(
            (CONTENT_TYPE, json.dumps(message).encode())
            for message in (
                [1],
                {},
                OURS,
                OURS | {"v": 2},
                OURS | {"number": "1"},
                OURS | {"kind": "something of a later version"},
                OURS | {"content": {"type": "Nothing", "fields": {}}},
                OURS | {"content": {"type": "TicketUpdated", "fields": {"__class__": 1}}},
                OURS | {"kind": "bind", "content": {"socket": 3}},
                OURS | {"content": {"type": {"m": 7}}, "marker": "m", "attachments": []},
            )
        ),
        (CONTENT_TYPE, b"\xff{"),
        (CONTENT_TYPE, b"[" * 100_000),
    ],
)
def test_what_no_process_of_ours_sent_is_passed_over(pair: Pair, chat: Connect, content_type: str, body: bytes) -> None:
    client = listen(chat, pair.there)
    before = metric(pair.there, "repo_notify_queue_ignored_total")
    with Connection(pair.queue) as connection:
        producer = Producer(connection.channel(), Exchange(CHANNEL, type="fanout", durable=False))
        # An origin of its own each, or the second would be a repeat.
        body = body.replace(b'"another"', f'"{uuid4().hex}"'.encode())
        producer.publish(body, content_type=content_type or "text/plain", content_encoding="binary")
    QueuePublisher(pair.queue, channel=CHANNEL).publish(events.TicketUpdated(**FIELDS, data={"n": 1}))
    assert client.hear_event("containerUpdateTicket")["data"] == {"n": 1}
    assert metric(pair.there, "repo_notify_queue_ignored_total") == before + 1


def test_a_removed_model_is_no_longer_found_in_the_other_process(
    pair: Pair, chat: Connect, mongo: MongoClient[dict[str, Any]]
) -> None:
    teamspace, project, model = f"queue{uuid4().hex[:8]}", str(uuid4()), str(uuid4())
    database = mongo[teamspace]
    database["settings"].insert_one({"_id": model, "permissions": [{"user": "carol", "permission": "viewer"}]})
    database["projects"].insert_one({"_id": Binary(UUID(project).bytes, 4), "models": [model]})
    room = {"teamspace": teamspace, "project": project, "model": model}
    client = chat(pair.there.url, cookie=User(pair.there).log_in("carol").cookie)
    wait = barrier(pair, chat)
    assert client.ask("join", room)["event"] == "success"
    mongo.drop_database(teamspace)
    assert client.ask("join", room)["event"] == "success", "not cached"
    User(pair.here).publish("ModelRemoved", **room, kind="container")
    wait()
    assert client.ask("join", room)["code"] == "ROOM_NOT_FOUND"


@pytest.mark.parametrize("kind", brokers.BROKERS)
def test_a_broker_that_goes_and_comes_back(kind: str, sample: str, chat: Connect, tmp_path: Path) -> None:
    run, port = brokers.BROKERS[kind], free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(ExitStack())
        queue = broker.enter_context(run(tmp_path, port))
        config = {**host_defaults(sample), **queue_settings(queue)}
        here, there = (stack.enter_context(host_app(config)) for _ in range(2))
        near, far = listen(chat, here), listen(chat, there)
        # From a process of which nothing was heard yet nothing can be missed.
        User(here).publish("TicketUpdated", **FIELDS, data={"n": 0})
        for client in (near, far):
            assert client.hear_event("containerUpdateTicket")["data"] == {"n": 0}
        broker.close()

        until(lambda: status(here) == "degraded", lambda: ready(here).text)
        assert ready(here).status_code == 200
        assert "the message queue cannot be reached" in ready(here).json()["reasons"]["message_queue"]
        User(here).publish("TicketUpdated", **FIELDS, data={"n": 1})
        assert near.hear_event("containerUpdateTicket")["data"] == {"n": 1}
        assert metric(here, "repo_notify_queue_errors_total") > 0

        stack.enter_context(run(tmp_path, port))
        for served in (here, there):
            until_ready(served)
        User(here).publish("TicketUpdated", **FIELDS, data={"n": 2})
        assert near.hear_event("containerUpdateTicket")["data"] == {"n": 2}
        # What was published meanwhile arrives late, or its lack is told: a subscription that stands later than the
        # sender's connection misses it.
        name, (heard,) = far.hear()
        assert heard["event"] == "gap" if name == "message" else heard["data"] == {"n": 1}, heard
        assert far.hear_event("containerUpdateTicket")["data"] == {"n": 2}


def test_a_broker_that_was_never_there(sample: str, chat: Connect, serve_host: Callable[..., Served]) -> None:
    queue = f"redis://user:hunter2@127.0.0.1:{free_port()}/0"
    served = serve_host(**queue_settings(queue))
    client = listen(chat, served)
    User(served).publish("TicketUpdated", **FIELDS, data={})
    client.hear_event("containerUpdateTicket")
    answer = ready(served)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert "hunter2" not in answer.text
    assert list(answer.json()["reasons"]) == ["message_queue"]


def test_a_publisher_says_that_the_broker_is_away() -> None:
    with pytest.raises(QueueUnavailable, match="the message queue cannot be reached"):
        QueuePublisher(f"redis://127.0.0.1:{free_port()}/0").publish(events.TicketUpdated(**FIELDS, data={}))


@pytest.mark.parametrize("url", ["kafka://here", "here", "redis"])
def test_a_publisher_says_that_the_address_is_wrong(url: str) -> None:
    with pytest.raises(SettingsError, match="REPO_NOTIFY_MESSAGE_QUEUE should be an address"):
        QueuePublisher(url)
