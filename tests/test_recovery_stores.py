"""What a history's store is for: a service that was restarted, or killed, has lost nothing (spec section 9)."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from time import monotonic
from typing import Any, Protocol
from uuid import uuid4

import pytest
import redis
import requests
from pymongo import MongoClient

from repo_notify.delivery.history import places
from repo_notify.delivery.history.history import STORED_SECONDS
from repo_notify.delivery.history.packing import key_of
from tests.conftest import host_defaults
from tests.support import brokers
from tests.support.audience import Place
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.publishers import Publisher
from tests.support.restarting import Restarting
from tests.support.returning import Returning
from tests.support.served import SECONDS, Served, User
from tests.support.tcp_proxy import TcpProxy
from tests.support.teamspaces import Teamspace
from tests.support.until import until
from tests.test_recovery import large_updates, numbers, update

Json = Any
Make = Callable[..., Teamspace]
READER = "carol"
KEY = "a key for publishing"
# A record is written within so many seconds of a change; a killed process must have had them.
STORES = ["mongodb", "redis"]


class Service(Restarting):
    """A served app of one process with a store of its own."""

    def __init__(self, config: dict[str, Any], store: Any) -> None:
        super().__init__(config)
        self.store = store


class MongoStore:
    """What a test asks of the history in MongoDB."""

    def __init__(self, client: MongoClient[dict[str, Any]], name: str) -> None:
        self.database = client[name]

    def in_room(self, room: str) -> int:
        """How many records name a room."""
        return sum(room in found["said"] for found in self.database["records"].find())

    def replaying(self, room: str) -> list[bool]:
        """Whether a replay was going on, for each record that names a room."""
        kept = [json.loads(found["said"]) for found in self.database["records"].find() if room in found["said"]]
        return [bool(found["replaying"]) for found in kept]

    def records(self) -> int:
        return self.database["records"].count_documents({})

    def events(self) -> int:
        """How many events are kept whole."""
        return self.database["entries"].count_documents({"said": {"$exists": True}})

    def everything(self) -> str:
        return str([found for name in self.database.list_collection_names() for found in self.database[name].find()])

    def is_kept(self, pid: str | None) -> bool:
        """Whether there is a record of a client that is connected."""
        return self.database["records"].count_documents({"_id": key_of(str(pid)), "at": {"$exists": False}}) == 1

    def has_arrived(self, served: Served) -> bool:
        """Whether the service has delivered everything that the store has; what is published is delivered at once."""
        return True

    def settings(self, port: int) -> dict[str, Any]:
        """The settings by which a service uses it by way of a proxy on that port."""
        return {"REPO_NOTIFY_MONGO_URI": f"mongodb://127.0.0.1:{port}/?directConnection=true"}


class RedisStore:
    """The same of the history in Redis."""

    def __init__(self, address: str, name: str) -> None:
        self.client: Any = redis.Redis.from_url(address, protocol=2)
        self._keys = f"{{{name}}}:"

    def _kept(self) -> dict[str, Json]:
        """When the connection ended, the session, and the record itself, by the key of the secret."""
        processes: Any = self.client.keys(f"{self._keys}records:*")
        found: Any = {key: value for process in processes for key, value in dict(self.client.hgetall(process)).items()}
        return {key.decode(): json.loads(value.partition(b" ")[2]) for key, value in found.items()}

    def _records(self) -> list[Json]:
        return [json.loads(record) for _, _, record, *_ in self._kept().values()]

    def is_kept(self, pid: str | None) -> bool:
        ended, *_ = self._kept().get(key_of(str(pid)), [0])
        return ended is None

    def has_arrived(self, served: Served) -> bool:
        position = requests.get(f"{served.url}/notify/position", timeout=SECONDS).json()["position"]
        found: Any = self.client.xrevrange(f"{self._keys}stream")
        last = next((number for number, fields in found if b'"kind":"event"' in fields[b"body"]), b"0-0")
        return places.message_of(int(position.split(".")[1], 16)) >= int(last.partition(b"-")[0])

    def in_room(self, room: str) -> int:
        return sum(room in json.dumps(found["rooms"]) for found in self._records())

    def replaying(self, room: str) -> list[bool]:
        return [bool(found["replaying"]) for found in self._records() if room in json.dumps(found["rooms"])]

    def records(self) -> int:
        return len(self._records())

    def events(self) -> int:
        found: Any = self.client.xlen(f"{self._keys}stream")
        return int(found)

    def everything(self) -> str:
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"hash": self.client.hgetall,
            b"stream": self.client.xrange,
            b"string": self.client.get,
            b"zset": lambda key: self.client.zrange(key, 0, -1),
        }
        found: Any = self.client.keys(f"{self._keys}*")
        return str([(key, read[self.client.type(key)](key)) for key in found])

    def settings(self, port: int) -> dict[str, Any]:
        return {"REPO_NOTIFY_HISTORY": f"redis://127.0.0.1:{port}/0"}


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with brokers.redis(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(
    kind: str, request: pytest.FixtureRequest, sample: str, mongo: MongoClient[dict[str, Any]]
) -> Iterator[Service]:
    name = f"history_{uuid4().hex}"
    config = {
        **host_defaults(sample),
        "REPO_NOTIFY_API_KEY": KEY,
        "REPO_NOTIFY_HISTORY": "mongodb",
        "REPO_NOTIFY_HISTORY_DATABASE": name,
        "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": name,
    }
    store: Any = MongoStore(mongo, name)
    if kind == "redis":
        config["REPO_NOTIFY_HISTORY"] = address = request.getfixturevalue("redis_address")
        store = RedisStore(address, name)
    found = Service(config, store)
    found.start()
    yield found
    found.close()
    mongo.drop_database(name)


@pytest.fixture
def connect(service: Service) -> Iterator[Callable[..., Returning]]:
    with ExitStack() as stack:

        def make(user: str | None = READER, **options: Any) -> Returning:
            cookie = User(service.served).log_in(user).cookie if user is not None else ""
            client = Returning(service.served.url, cookie, **options).connect()
            stack.callback(close, client)
            return client

        yield make


def close(client: Returning) -> None:
    # Its server may have ended.
    with suppress(OSError):
        client.close()


Connect = Callable[..., Returning]


@pytest.fixture
def place(teamspaces: Make) -> Place:
    found = Place(teamspaces())
    for model in (found.model, found.other_model):
        found.teamspace.model({READER: "viewer", "dave": "viewer"}, _id=model)
    return found


def updates(place: Place, *several: int) -> Json:
    """Events as publishers send them."""
    return [
        {"type": "TicketUpdated", **place.in_model, "kind": "container", "data": {"_id": "t", f"n{number}": number}}
        for number in several
    ]


def post(service: Service, place: Place, *several: int) -> requests.Response:
    """Publish events by HTTP, acknowledged."""
    events = updates(place, *several)
    headers = {"Authorization": f"Bearer {KEY}"}
    return requests.post(f"{service.served.url}/notify/events", json=events, headers=headers, timeout=SECONDS)


def joined(service: Service, client: Returning, place: Place, members: int = 1) -> Json:
    """Join the model's room, and wait until the store knows of all its members."""
    reply = client.join(place.in_model)
    until(lambda: service.store.in_room(place.model) == members)
    return reply


def heard_so_far(service: Service, client: Returning) -> Json:
    """Everything that was published has been delivered: what the client has heard of it."""
    until(lambda: service.store.has_arrived(service.served))
    return client.heard_so_far()


ENDS = pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "restarted"])


@ENDS
def test_what_was_missed_comes_once_and_in_order(
    service: Service, connect: Connect, place: Place, end: signal.Signals
) -> None:
    client = connect()
    joined(service, client, place)
    assert post(service, place, 1).status_code == 202
    assert numbers(client.hear(1)) == [1]
    client.drop()
    assert post(service, place, 2, 3).status_code == 202
    service.restart(end)
    update(service.served, place, 4)
    client.connect()
    assert client.recovered
    update(service.served, place, 5)
    assert numbers(heard_so_far(service, client)) == [2, 3, 4, 5]


@ENDS
def test_who_was_connected_hears_nothing_twice(
    service: Service, connect: Connect, place: Place, end: signal.Signals
) -> None:
    client = connect()
    joined(service, client, place)
    assert post(service, place, 1, 2).status_code == 202
    assert numbers(client.hear(2)) == [1, 2]
    service.restart(end)
    update(service.served, place, 3)
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [3]


def test_two_restarts_in_a_row(service: Service, connect: Connect, place: Place) -> None:
    client, other = connect(), connect("dave")
    for members, each in enumerate((client, other), 1):
        joined(service, each, place, members)
    for number, end in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), 1):
        assert post(service, place, number).status_code == 202
        service.restart(end)
        other.connect()
        assert other.recovered
        assert number in numbers(heard_so_far(service, other))
        until(lambda: service.store.is_kept(other.pid))
    client.connect()
    assert client.recovered
    update(service.served, place, 4)
    assert numbers(heard_so_far(service, client)) == [1, 2, 3, 4]


def test_a_client_that_never_heard_anything(service: Service, connect: Connect, place: Place) -> None:
    client = connect()
    joined(service, client, place)
    client.offset = None
    assert post(service, place, 1).status_code == 202
    service.restart(signal.SIGKILL)
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [1]


def test_another_user_recovers_nothing(service: Service, connect: Connect, place: Place) -> None:
    client = connect()
    joined(service, client, place)
    service.restart(signal.SIGKILL)
    assert post(service, place, 1).status_code == 202
    cookie, kept = client.cookie, (client.pid, client.sid, client.offset)
    for other in (User(service.served).log_in("dave").cookie, ""):
        client.cookie = other
        client.connect()
        assert not client.recovered
        assert heard_so_far(service, client) == []
        client.drop()
        client.pid, client.sid, client.offset = kept
    client.cookie = cookie
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [1]


def test_the_secret_counts_once(service: Service, connect: Connect, place: Place) -> None:
    client = connect()
    joined(service, client, place)
    service.restart(signal.SIGKILL)
    first = Returning(client.url, client.cookie, pid=client.pid, sid=client.sid, offset=client.offset).connect()
    client.connect()
    assert first.recovered
    assert client.recovered
    # The older connection has ended.
    assert post(service, place, 1).status_code == 202
    assert numbers(heard_so_far(service, client)) == [1]
    close(first)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_ended_session_recovers_nothing(service: Service, connect: Connect, place: Place, when: str) -> None:
    client = connect(None)
    user = User(service.served).log_in(READER, socket_id=client.sid)
    joined(service, client, place)
    if when == "before":
        user.post("/logout").raise_for_status()
        until(lambda: not service.store.in_room(place.model))
    service.restart(signal.SIGKILL)
    if when == "after":
        user.post("/logout").raise_for_status()
    assert post(service, place, 1).status_code == 202
    client.connect()
    assert not client.recovered or when == "before"
    assert heard_so_far(service, client) == []


def test_a_session_that_ended_while_nobody_served_recovers_nothing(
    service: Service, connect: Connect, place: Place, mongo: MongoClient[dict[str, Any]]
) -> None:
    service.end(signal.SIGTERM)
    service.config["SESSIONS"] = "mongodb"
    service.start()
    client, still = connect(None), connect(None)
    user = User(service.served).log_in(READER, socket_id=client.sid)
    session = user.http.get(f"{service.served.url}/session", timeout=SECONDS).json()["session_id"]
    User(service.served).log_in(READER, socket_id=still.sid)
    for members, each in enumerate((client, still), 1):
        joined(service, each, place, members)
    service.end(signal.SIGKILL)
    mongo["flask_session"]["sessions"].delete_one({"id": f"session:{session}"})
    service.start()
    update(service.served, place, 1)
    client.connect()
    assert not client.recovered
    assert heard_so_far(service, client) == []
    still.connect()
    assert still.recovered
    assert numbers(heard_so_far(service, still)) == [1]


def test_who_left_of_its_own_will_does_not_come_back(service: Service, connect: Connect, place: Place) -> None:
    client = connect()
    joined(service, client, place)
    client.send("41")
    until(lambda: service.store.records() == 0)
    service.restart(signal.SIGKILL)
    client.connect()
    assert not client.recovered


def test_a_room_that_was_left_is_not_entered_again(service: Service, connect: Connect, place: Place) -> None:
    client = connect()
    joined(service, client, place)
    client.join({**place.in_model, "model": place.other_model})
    client.emit("leave", place.in_model)
    until(lambda: (service.store.in_room(place.other_model), service.store.in_room(place.model)) == (1, 0))
    service.restart(signal.SIGKILL)
    update(service.served, place, 1)
    update(service.served, place, 2, model=place.other_model)
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [2]


@ENDS
def test_positions_of_before_are_positions(
    service: Service, connect: Connect, place: Place, end: signal.Signals
) -> None:
    position = requests.get(f"{service.served.url}/notify/position", timeout=SECONDS).json()["position"]
    assert post(service, place, 1, 2).status_code == 202
    service.restart(end)
    update(service.served, place, 3)
    client = connect()
    reply = client.emit("join", {**place.in_model, "since": position})
    assert reply["replayed"] == 3
    heard = [each for each in client.heard if each[0] != "message"]
    client.heard.clear()
    assert numbers(heard + heard_so_far(service, client)) == [1, 2, 3]
    until(lambda: service.store.replaying(place.model) == [False])
    service.restart(end)
    update(service.served, place, 4)
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [4]


def test_a_replay_that_has_ended_is_not_begun_anew(service: Service, connect: Connect, place: Place) -> None:
    position = requests.get(f"{service.served.url}/notify/position", timeout=SECONDS).json()["position"]
    # More than the sockets in between take of a client that does not read.
    many = 24
    large_updates(service.served, place, many, 400_000)
    client = connect(receive_buffer=65_536)
    client.send(f'42{json.dumps(["join", {**place.in_model, "since": position}])}')
    until(lambda: service.store.replaying(place.model) == [True])
    client.hear(many + 1)
    until(lambda: service.store.replaying(place.model) == [False])
    service.restart(signal.SIGKILL)
    update(service.served, place, many)
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [many]


def test_every_value_survives(service: Service, connect: Connect, place: Place) -> None:
    client = connect()
    joined(service, client, place)
    data = {"_id": "t", "large": 1 << 80, "half": "\ud800", "none": None, "deep": [{"$oid": {"a.b": 1.5}}]}
    event: Json = {"type": "TicketUpdated", **place.in_model, "kind": "container", "data": data}
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = requests.post(f"{service.served.url}/notify/events", json=event, headers=headers, timeout=SECONDS)
    assert answer.status_code == 202
    service.restart(signal.SIGKILL)
    client.connect()
    assert client.recovered
    ((_, (payload,)),) = heard_so_far(service, client)
    assert payload["data"] == data


def test_superseded_updates_are_left_out_across_a_restart(service: Service, connect: Connect, place: Place) -> None:
    client = connect()
    joined(service, client, place)
    for number, status in enumerate(("queued", "processing", "ok")):
        who = User(service.served).log_in("alice")
        who.publish("ModelSettingsUpdated", **place.in_model, kind="container", data={"status": status})
        if number == 1:
            service.restart(signal.SIGTERM)
    client.connect()
    ((event, (payload,)),) = heard_so_far(service, client)
    assert (event, payload["data"]) == ("containerSettingsUpdate", {"status": "ok"})


def test_a_quiet_client_is_recovered_while_others_are_busy(service: Service, connect: Connect, place: Place) -> None:
    service.end(signal.SIGTERM)
    service.config["REPO_NOTIFY_HISTORY_EVENTS"] = 5
    service.start()
    client, busy = connect(), connect("dave")
    joined(service, client, place)
    busy.join({**place.in_model, "model": place.other_model})
    until(lambda: service.store.in_room(place.other_model) == 1)
    update(service.served, place, *range(20), model=place.other_model)
    busy.close()
    # What is too much is dropped, but for the rooms of it.
    until(lambda: service.store.events() <= 5)
    update(service.served, place, *range(20), model=place.other_model)
    assert post(service, place, 1).status_code == 202
    service.restart(signal.SIGKILL)
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [1]
    busy.connect()
    assert not busy.recovered
    ((event, (told,)),) = busy.hear(1)
    assert (event, told["event"]) == ("message", "gap")


class Held(Protocol):
    """A store that can be held up, and be away."""

    def hold_up(self) -> None:
        """Let nothing through."""

    def release(self) -> None:
        """Let everything through, what waited first."""

    def refusing(self) -> AbstractContextManager[None]:
        """End each connection, meanwhile."""


class HeldMongo(MongoProxy):
    """With everything else of MongoDB."""

    database = ""

    def hold_up(self) -> None:
        self.hold_all(self.database)


class HeldRedis(TcpProxy):
    def hold_up(self) -> None:
        self.freeze(new_too=True)

    def release(self) -> None:
        self.thaw()


@pytest.fixture
def proxied(service: Service, kind: str, sample: str, request: pytest.FixtureRequest) -> Iterator[Held]:
    """The service's store behind a proxy."""
    service.end(signal.SIGTERM)
    with ExitStack() as stack:
        found: HeldMongo | HeldRedis
        if kind == "redis":
            found = stack.enter_context(HeldRedis(int(request.getfixturevalue("redis_address").split(":")[2][:-2])))
        else:
            found = stack.enter_context(HeldMongo(sample))
            found.database = service.config["REPO_NOTIFY_HISTORY_DATABASE"]
        service.config |= service.store.settings(found.port)
        service.start()
        yield found
        found.release()
        service.close()


def ready(service: Service) -> Json:
    return requests.get(f"{service.served.url}/notify/readyz", timeout=SECONDS).json()


def test_a_store_that_is_away_for_a_while_costs_nothing(
    service: Service, proxied: Held, connect: Connect, place: Place
) -> None:
    client, other = connect(), connect("dave")
    for members, each in enumerate((client, other), 1):
        joined(service, each, place, members)
    assert ready(service) == {"status": "ok"}
    proxied.hold_up()
    update(service.served, place, 1)
    assert numbers(client.hear(1)) == [1]
    expected = {"status": "degraded", "reasons": {"history": "the history's store does not answer"}}
    until(lambda: ready(service) == expected, lambda: ready(service))
    client.drop()
    answer = post(service, place, 2)
    assert answer.status_code == 503
    assert "the history's store did not take them" in answer.json()["errors"][0]["message"]
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [2]
    with Publisher(service.served.url, {"key": KEY}) as publisher:
        # The store was waited for once; what is sent on one connection is not held up for as long each time.
        started = monotonic()
        for number in range(3, 13):
            assert publisher.publish(updates(place, number)) == answer.json()
        assert monotonic() - started < STORED_SECONDS
        proxied.release()
        until(lambda: ready(service) == {"status": "ok"})
        assert post(service, place, 13).status_code == 202
        assert publisher.publish(updates(place, 14)) == {"accepted": 1}
    service.restart(signal.SIGKILL)
    other.connect()
    assert other.recovered
    assert numbers(heard_so_far(service, other)) == list(range(1, 15))


def test_who_heard_what_was_never_stored_misses_nothing_of_what_follows(
    service: Service, proxied: Held, connect: Connect, place: Place
) -> None:
    client = connect()
    joined(service, client, place)
    with proxied.refusing():
        update(service.served, place, 1)
        assert numbers(client.hear(1)) == [1]
        client.drop()
        until(lambda: metric(service.served, "repo_notify_history_store_up") == 0)
        assert metric(service.served, "repo_notify_history_waiting") == 1
        service.end(signal.SIGKILL)
    service.start()
    assert post(service, place, 2).status_code == 202
    client.connect()
    assert client.recovered
    assert numbers(heard_so_far(service, client)) == [2]


def test_who_cannot_be_looked_up_is_told_of_a_gap(
    service: Service, proxied: Held, connect: Connect, place: Place
) -> None:
    client = connect()
    joined(service, client, place)
    service.restart(signal.SIGKILL)
    proxied.hold_up()
    client.connect()
    assert not client.recovered
    ((event, (told,)),) = client.hear(1)
    assert (event, told["event"]) == ("message", "gap")


def test_made_up_secrets_make_somebody_new(service: Service, connect: Connect, place: Place) -> None:
    for pid in ("x" * 40, "{" * 40, "x" * 200_000, "é" * 40):
        with Returning(service.served.url, User(service.served).log_in(READER).cookie) as client:
            client.connect(auth={"pid": pid})
            assert client.pid is not None
            assert heard_so_far(service, client) == []


def test_no_secret_is_in_the_store(service: Service, connect: Connect, place: Place) -> None:
    client = connect()
    joined(service, client, place)
    client.drop()
    until(lambda: metric(service.served, "repo_notify_lost_clients") == 1)
    service.end(signal.SIGTERM)
    kept = service.store.everything()
    assert place.model in kept
    assert str(client.pid) not in kept


@pytest.mark.parametrize("kind", ["mongodb"])
def test_its_database_is_no_teamspace(service: Service, connect: Connect, teamspaces: Make) -> None:
    place = Place(teamspaces(service.config["REPO_NOTIFY_HISTORY_DATABASE"]))
    place.teamspace.model({READER: "viewer"}, _id=place.model)
    client = connect()
    assert client.emit("join", place.in_model)["code"] == "ROOM_NOT_FOUND"
