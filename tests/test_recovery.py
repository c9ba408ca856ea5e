"""Clients that lose their connection come back as who they were, and miss nothing (spec section 9)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from repo_notify.delivery import broker, messages
from tests.conftest import host_defaults
from tests.support import brokers
from tests.support.audience import Place
from tests.support.metrics import metric
from tests.support.returning import Returning
from tests.support.served import Served, User, host_app
from tests.support.teamspaces import Teamspace
from tests.support.until import until

Json = Any
Make = Callable[..., Teamspace]
Connect = Callable[..., Returning]
READER = "carol"
SESSION_ENDED = "Your session has ended"


@pytest.fixture(scope="module")
def served(sample: str) -> Iterator[Served]:
    with host_app({"REPO_NOTIFY_MONGO_URI": sample, "REPO_NOTIFY_USERS_COLLECTION": "users"}) as found:
        yield found


@pytest.fixture
def connect(served: Served) -> Iterator[Connect]:
    with ExitStack() as stack:

        def make(user: str | None = READER, *, to: Served | None = None, **options: Any) -> Returning:
            at = to or served
            cookie = User(at).log_in(user).cookie if user is not None else ""
            client = Returning(at.url, cookie, **options).connect()
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def place(teamspaces: Make) -> Place:
    found = Place(teamspaces())
    for model in (found.model, found.other_model):
        found.teamspace.model({READER: "viewer", "dave": "viewer"}, _id=model)
    return found


def publisher(served: Served) -> User:
    return User(served).log_in("alice")


def update(served: Served, place: Place, *numbers: int, model: str | None = None, **options: Any) -> None:
    """Publish one event for each number; no two of them change the same field."""
    who = publisher(served)
    for number in numbers:
        ids = {**place.in_model, **({"model": model} if model is not None else {})}
        who.publish("TicketUpdated", **ids, kind="container", data={"_id": "t", f"n{number}": number}, **options)


def large_updates(served: Served, place: Place, many: int, length: int = 2_000) -> None:
    """Publish so many numbered events, each with a text of that length."""
    who = publisher(served)
    for number in range(many):
        data = {"_id": "t", f"n{number}": number, "text": "x" * length}
        who.publish("TicketUpdated", **place.in_model, kind="container", data=data)


def numbers(heard: list[tuple[str, list[Json]]]) -> list[int]:
    """The numbers of these events, in order."""
    found = []
    for event, (payload,) in heard:
        assert event == "containerUpdateTicket", (event, payload)
        (number,) = [value for key, value in payload["data"].items() if key != "_id"]
        found.append(number)
    return found


def is_closed(connection: websocket.WebSocket) -> bool:
    """Read what was sent to a connection; whether the server has ended it."""
    try:
        while connection.recv():
            """What was sent before."""
    except (websocket.WebSocketConnectionClosedException, OSError):
        return True
    return True


def lose(served: Served, client: Returning) -> None:
    """Lose the link, and wait until the server has noticed."""
    before = metric(served, "repo_notify_lost_clients")
    client.drop()
    until(lambda: metric(served, "repo_notify_lost_clients") > before)


def test_what_was_missed_comes_once_and_in_order(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    update(served, place, 1)
    assert numbers(client.hear(1)) == [1]
    lose(served, client)
    update(served, place, 2, 3, 4)
    client.connect()
    assert client.recovered
    update(served, place, 5)
    assert numbers(client.heard_so_far()) == [2, 3, 4, 5]


def test_the_replay_has_its_own_position(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    for number in range(1, 4):
        lose(served, client)
        update(served, place, number)
        client.connect()
        assert client.recovered
        assert numbers(client.heard_so_far()) == [number]


def test_a_client_that_heard_nothing_yet_is_recovered(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.emit("join", place.in_model)
    client.offset = None
    lose(served, client)
    update(served, place, 1)
    client.connect()
    assert client.recovered
    assert numbers(client.heard_so_far()) == [1]


def test_a_client_is_back_before_the_server_noticed(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    old = client.vanish()
    update(served, place, 1)
    client.connect()
    assert client.recovered
    update(served, place, 2)
    assert numbers(client.heard_so_far()) == [1, 2]
    # The older connection is closed.
    assert is_closed(old)
    update(served, place, 3)
    assert numbers(client.heard_so_far()) == [3]


def test_a_position_follows_whatever_is_sent_in_the_same_write(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    packets: list[str] = []
    receive = client._receive

    def kept() -> str:
        packets.append(receive())
        return packets[-1]

    client._receive = kept  # type: ignore[method-assign]  # the packets as they are
    client.emit("join", place.in_model)
    update(served, place, 1, 2)
    client.heard_so_far()
    for name in ("message", "containerUpdateTicket"):
        behind = [packets[at + 1] for at, packet in enumerate(packets[:-1]) if packet.startswith(f'42["{name}"')]
        assert behind
        assert any(packet.startswith('42["position","') for packet in behind)
    assert max(len(json.loads(packet[2:])) for packet in packets if packet.startswith("42[")) == 2


def test_who_leaves_of_its_own_will_does_not_come_back(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    client.send("41")
    until(lambda: metric(served, "repo_notify_rooms") is not None)
    client.drop()
    update(served, place, 1)
    client.connect()
    assert not client.recovered
    assert client.heard_so_far() == []


def test_another_user_recovers_nothing(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    lose(served, client)
    update(served, place, 1)
    cookie = client.cookie
    for other in (User(served).log_in("dave").cookie, ""):
        client.cookie = other
        pid, sid, offset = client.pid, client.sid, client.offset
        client.connect()
        assert not client.recovered
        assert client.heard_so_far() == []
        client.drop()
        client.pid, client.sid, client.offset = pid, sid, offset
    # Nobody else's try costs the user anything.
    client.cookie = cookie
    client.connect()
    assert client.recovered
    assert numbers(client.heard_so_far()) == [1]


def test_a_newer_session_of_the_same_user_takes_over(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    lose(served, client)
    client.cookie = User(served).log_in(READER).cookie
    client.connect()
    assert client.recovered
    update(served, place, 1)
    assert numbers(client.heard_so_far()) == [1]


def test_who_was_named_by_a_request_is_known_by_the_secret(served: Served, connect: Connect, place: Place) -> None:
    client = connect(None)
    User(served).log_in(READER, socket_id=client.sid)
    client.join(place.in_model)
    lose(served, client)
    update(served, place, 1)
    client.connect()
    assert client.recovered
    update(served, place, 2)
    assert numbers(client.heard_so_far()) == [1, 2]


def test_an_ended_session_recovers_nothing(served: Served, connect: Connect, place: Place) -> None:
    client = connect(None)
    user = User(served).log_in(READER, socket_id=client.sid)
    client.join(place.in_model)
    lose(served, client)
    user.post("/logout").raise_for_status()
    update(served, place, 1)
    client.connect()
    assert not client.recovered
    assert client.heard_so_far() == []


def test_a_right_that_ended_meanwhile_is_asked_for(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    other = {**place.in_model, "model": place.other_model, "kept": "as it was sent"}
    client.join(other)
    lose(served, client)
    before = metric(served, "repo_notify_change_stream_changes_total")
    place.teamspace.model({}, _id=place.other_model)
    # A list that was read less than a second ago may be believed until then.
    until(lambda: metric(served, "repo_notify_change_stream_changes_total") > before)
    update(served, place, 1, model=place.other_model)
    update(served, place, 2)
    client.connect()
    assert client.recovered
    (error, (denied,)), *heard = client.hear(2)
    assert error == "error"
    assert denied["code"] == "ROOM_NOT_FOUND"
    assert denied["details"] == {"action": "join", "data": other}
    assert numbers(heard) == [2]


def test_its_own_changes_do_not_come_back(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    user = User(served)
    user.log_in(READER)
    lose(served, client)
    ids = {**place.in_model, "kind": "container"}
    user.publish("TicketUpdated", socket_id=client.sid, **ids, data={"_id": "t", "n1": 1})
    update(served, place, 2)
    client.connect()
    user.publish("TicketUpdated", socket_id=client.sid, **ids, data={"_id": "t", "n3": 3})
    update(served, place, 4)
    assert numbers(client.heard_so_far()) == [2, 4]


def test_the_other_namespace_recovers_by_itself(served: Served, connect: Connect, place: Place) -> None:
    client = connect(namespace="/legacy_v4")
    client.join({"account": place.name, "model": place.model})
    lose(served, client)
    publisher(served).publish("IssuesCreated", teamspace=place.name, model=place.model, issues=[{"_id": "i"}])
    client.connect()
    assert client.recovered
    assert client.hear(1) == [(f"{place.name}::{place.model}::newIssues", [[{"_id": "i"}]])]


def test_superseded_updates_are_left_out(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    client.join(place.in_model)
    lose(served, client)
    who = publisher(served)
    for status in ("queued", "processing", "ok"):
        who.publish("ModelSettingsUpdated", **place.in_model, kind="container", data={"status": status})
    client.connect()
    ((event, (payload,)),) = client.heard_so_far()
    assert (event, payload["data"]) == ("containerSettingsUpdate", {"status": "ok"})


@pytest.fixture(scope="module")
def connecting(sample: str) -> Iterator[Served]:
    """A host with a connect handler of its own."""
    with host_app({**host_defaults(sample), "CONNECTS": True}) as found:
        yield found


@pytest.mark.parametrize(("own", "seen"), [({}, None), ({"token": "t"}, {"token": "t"})], ids=["nothing", "a token"])
def test_the_hosts_connect_handler_sees_what_is_the_clients_own(connecting: Served, own: Json, seen: Json) -> None:
    with Returning(connecting.url).connect() as client:
        client.hear(0)
        client.drop()
        # A client that comes back adds the protocol's keys to its own.
        client.connect(auth={**own, "pid": client.pid, "offset": client.offset})
        assert client.recovered
    assert requests.get(f"{connecting.url}/connects", timeout=10).json()[-2:] == [None, seen]


@pytest.mark.parametrize(
    "auth",
    [
        {"pid": 1}, {"pid": None}, {"pid": ""}, {"pid": "x" * 200_000}, {"pid": ["a"]}, {"pid": {}},
        {"pid": "made-up", "offset": "made-up"}, {"pid": "é" * 40, "offset": 7},
    ],
)  # fmt: skip
def test_odd_secrets_make_somebody_new(served: Served, auth: Json) -> None:
    with Returning(served.url, User(served).log_in(READER).cookie).connect(auth=auth) as client:
        assert client.pid is not None
        assert not client.recovered
        assert client.heard_so_far() == []


@pytest.mark.parametrize("offset", [7, ["x"], {}, "made-up", "x" * 200_000, True])
def test_an_offset_that_is_no_position_is_a_gap(served: Served, connect: Connect, place: Place, offset: Json) -> None:
    client = connect()
    client.join(place.in_model)
    lose(served, client)
    pid = client.pid
    client.connect(auth={"pid": pid, "offset": offset})
    assert not client.recovered
    ((event, (told,)),) = client.hear(1)
    assert (event, told["event"]) == ("message", "gap")
    assert isinstance(told["data"]["reason"], str)
    update(served, place, 1)
    assert client.heard_so_far() == []


# What a client asks to be missed: nothing kept, too old, too many, too large.
@pytest.mark.parametrize(
    "bound",
    [{"HISTORY_EVENTS": 5}, {"HISTORY_BYTES": 5_000}, {"HISTORY_SECONDS": 2}],
    ids=["events", "bytes", "seconds"],
)
def test_beyond_what_is_kept_there_is_a_gap(
    serve_host: Callable[..., Served], connect: Connect, place: Place, bound: dict[str, float]
) -> None:
    served = serve_host(**{f"REPO_NOTIFY_{key}": value for key, value in bound.items()})
    client = connect(to=served)
    client.join(place.in_model)
    update(served, place, 1)
    client.hear(1)
    lose(served, client)
    update(served, place, *range(2, 30))
    if "HISTORY_SECONDS" in bound:
        until(lambda: metric(served, "repo_notify_history_events") == 0)
    client.connect()
    assert not client.recovered
    if "HISTORY_SECONDS" not in bound:
        ((event, (told,)),) = client.hear(1)
        assert (event, told["event"]) == ("message", "gap")
    assert client.heard_so_far() == []
    assert metric(served, "repo_notify_history_events") <= 5 or "HISTORY_EVENTS" not in bound
    assert metric(served, "repo_notify_history_bytes") <= 5_000 or "HISTORY_BYTES" not in bound


def test_a_quiet_client_is_recovered_while_others_are_busy(
    serve_host: Callable[..., Served], connect: Connect, place: Place
) -> None:
    served = serve_host(REPO_NOTIFY_HISTORY_EVENTS=5)
    client = connect(to=served)
    client.join(place.in_model)
    update(served, place, *range(20), model=place.other_model)
    lose(served, client)
    update(served, place, *range(20), model=place.other_model)
    update(served, place, 1)
    client.connect()
    assert client.recovered
    assert numbers(client.heard_so_far()) == [1]


def test_a_long_replay_is_handed_out_and_cuts_nobody_off(
    serve_host: Callable[..., Served], connect: Connect, place: Place
) -> None:
    served = serve_host(REPO_NOTIFY_MAX_OUTBOX_BYTES=200_000)
    client = connect(to=served)
    client.join(place.in_model)
    lose(served, client)
    many = 1_500
    large_updates(served, place, many)
    client.connect()
    assert client.recovered
    # Live events meet the replay, and stand behind it.
    update(served, place, many)
    heard = client.hear(many + 1)
    assert [payload["data"].get(f"n{at}") for at, (_, (payload,)) in enumerate(heard)] == list(range(many + 1))
    assert client.heard_so_far() == []


def test_five_thousand_missed_events_are_handed_out_in_order(
    serve_host: Callable[..., Served], connect: Connect, place: Place
) -> None:
    served = serve_host(REPO_NOTIFY_API_KEY="key")
    client = connect(to=served)
    client.join(place.in_model)
    lose(served, client)
    # More than may wait for a client (REPO_NOTIFY_MAX_OUTBOX_BYTES), and within what is kept.
    many, together, text = 5_000, 100, "x" * 2_000
    for first in range(0, many, together):
        events: Json = [
            {"type": "TicketCreated", **place.in_model, "kind": "container", "data": {"_id": str(number), "text": text}}
            for number in range(first, first + together)
        ]
        answer = requests.post(
            f"{served.url}/notify/events", json=events, headers={"Authorization": "Bearer key"}, timeout=10
        )
        assert answer.status_code == 202
    client.connect()
    assert client.recovered
    heard = client.hear(many)
    assert [payload["data"] for _, (payload,) in heard] == [
        {"_id": str(number), "text": text} for number in range(many)
    ]
    assert client.heard_so_far() == []
    assert metric(served, "repo_notify_slow_clients_total") == 0
    assert metric(served, "repo_notify_delivery_outcomes", outcome="replayed") == many


def test_without_a_history_all_is_as_before(serve_host: Callable[..., Served], connect: Connect, place: Place) -> None:
    served = serve_host(REPO_NOTIFY_HISTORY="off")
    client = Returning(served.url, User(served).log_in(READER).cookie).connect()
    assert client.pid is None
    reply = client.emit("join", {**place.in_model, "since": "anything"})
    assert set(reply) == {"event", "data"}
    assert client.offset is None
    assert requests.get(f"{served.url}/notify/position", timeout=10).status_code == 404
    client.close()


@pytest.mark.parametrize("kind", brokers.BROKERS)
def test_what_did_not_arrive_from_another_process_is_a_gap(
    serve_host: Callable[..., Served], connect: Connect, place: Place, tmp_path: Path, kind: str
) -> None:
    with brokers.BROKERS[kind](tmp_path) as url:
        served = serve_host(REPO_NOTIFY_MESSAGE_QUEUE=url)
        client, away = connect(to=served), connect(to=served)
        for each in (client, away):
            each.join(place.in_model)
        lose(served, away)
        connection = broker.connect(url, broker.Deadlines())
        send = broker.sender(connection, "repo_notify")
        for number in (1, 3):
            send(messages.envelope("another", number, messages.ALIVE, messages.dump({})))
        ((event, (told,)),) = client.hear(1)
        assert (event, told["event"]) == ("message", "gap")
        update(served, place, 1)
        assert numbers(client.hear(1)) == [1]
        away.connect()
        assert not away.recovered
        assert [event for event, _ in away.hear(1)] == ["message"]
        broker.leave(connection, broker.Deadlines(), working=True)
