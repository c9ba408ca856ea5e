"""Two processes that share a history in Redis: a client comes back on either of them, and misses nothing (spec 9)."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import requests
import websocket

from repo_notify import QueuePublisher, events
from repo_notify.delivery.history.packing import key_of
from tests.conftest import host_defaults
from tests.support import brokers
from tests.support.audience import Place
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.returning import Returning
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.tcp_proxy import TcpProxy
from tests.support.teamspaces import Teamspace
from tests.support.until import until
from tests.test_recovery import numbers, update

Json = Any
Make = Callable[..., Teamspace]
READER = "carol"

pytestmark = pytest.mark.slow

# A message with the next number, at once, as the processes add theirs.
ADD = """
local number = redis.call("HINCRBY", KEYS[2], "number", 1)
redis.call("XADD", KEYS[1], string.format("%.0f-0", number), "at", "1", "body", ARGV[1])
"""


@dataclass
class Two:
    """Two processes, each with a client's way to it, and the Redis between them."""

    redis: Any
    here: Served
    there: Served
    channel: str
    _stack: ExitStack = field(default_factory=ExitStack)

    def client(self, user: str | None = READER) -> Returning:
        """Return a client of `here`."""
        cookie = User(self.here).log_in(user).cookie if user is not None else ""
        found = Returning(self.here.url, cookie).connect()
        self._stack.callback(end, found)
        return found

    def joined(self, place: Place) -> Returning:
        """Return a client of `here` in the model's room, of which the others know."""
        client = self.client()
        client.join(place.in_model)
        until(lambda: place.model in self.records())
        return client

    def far(self, place: Place) -> Returning:
        """Return a client of `there` in the model's room."""
        found = Returning(self.there.url, User(self.there).log_in(READER).cookie).connect()
        self._stack.callback(end, found)
        found.join(place.in_model)
        return found

    def records(self) -> str:
        kept = [self.redis.hgetall(key) for key in self.redis.keys(f"{{{self.channel}}}:records:*")]
        return str(kept)

    def close(self) -> None:
        self._stack.close()


def end(client: Returning) -> None:
    # Its process may have been killed.
    with suppress(OSError):
        client.close()


def end_link(old: websocket.WebSocket) -> None:
    raw: Any = old.sock
    raw.close()


def kinds(client: Returning, number: int) -> list[str]:
    """Return what the next events are: numbers of updates, or the `message` of a gap."""
    return [
        "gap" if event == "message" and data["event"] == "gap" else ", ".join(map(str, numbers([(event, [data])])))
        for event, (data, *_) in client.hear(number)
    ]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with brokers.redis(tmp_path_factory.mktemp("redis")) as found:
        yield found


def settings(sample: str, address: str, channel: str) -> dict[str, Any]:
    return {**host_defaults(sample), "REPO_NOTIFY_HISTORY": address, "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": channel}


@pytest.fixture
def two(sample: str, address: str) -> Iterator[Two]:
    channel = f"two{uuid4().hex}"
    with ExitStack() as stack:
        here, there = (stack.enter_context(host_app(settings(sample, address, channel))) for _ in range(2))
        found = Two(redis.Redis.from_url(address, protocol=2), here, there, channel)
        stack.callback(found.close)
        yield found


@pytest.fixture
def place(teamspaces: Make) -> Place:
    found = Place(teamspaces())
    for model in (found.model, found.other_model):
        found.teamspace.model({READER: "viewer", "dave": "viewer"}, _id=model)
    return found


def test_what_was_missed_comes_on_the_other_process(two: Two, place: Place) -> None:
    client = two.joined(place)
    update(two.here, place, 1)
    assert numbers(client.hear(1)) == [1]
    client.drop()
    update(two.here, place, 2)
    update(two.there, place, 3)
    client.url = two.there.url
    client.connect()
    assert client.recovered
    assert numbers(client.hear(2)) == [2, 3]
    update(two.here, place, 4)
    assert numbers(client.hear(1)) == [4]
    # And back again.
    client.drop()
    update(two.there, place, 5)
    client.url = two.here.url
    client.connect()
    assert client.recovered
    assert numbers(client.hear(1)) == [5]
    assert client.heard_so_far() == []


def test_a_killed_process_loses_nothing_on_the_other(two: Two, place: Place) -> None:
    client = two.joined(place)
    update(two.here, place, 1)
    assert numbers(client.hear(1)) == [1]
    two.here.process.send_signal(signal.SIGKILL)
    two.here.process.wait(SECONDS)
    update(two.there, place, 2)
    client.url = two.there.url
    client.connect()
    assert client.recovered
    assert numbers(client.hear(1)) == [2]


def test_a_connection_that_is_still_open_elsewhere_is_closed(two: Two, place: Place) -> None:
    client = two.joined(place)
    old = client.vanish()
    client.url = two.there.url
    client.connect()
    assert client.recovered
    until(lambda: metric(two.here, "repo_notify_connections") == 0)
    assert metric(two.here, "repo_notify_lost_clients") == 0
    update(two.here, place, 1)
    assert numbers(client.hear(1)) == [1]
    end_link(old)


def test_who_is_back_again_is_not_let_go_of_by_what_arrives_late(two: Two, place: Place) -> None:
    client = two.joined(place)
    for served in (two.there, two.here):
        client.drop()
        client.url = served.url
        client.connect()
        assert client.recovered
    # As when the other process could not say so at once.
    stream, meta = f"{{{two.channel}}}:stream", f"{{{two.channel}}}:history"
    taken = [json.loads(fields[b"body"]) for _, fields in two.redis.xrange(stream)]
    first = next(message for message in taken if message["kind"] == "taken")
    late = json.dumps({**first, "number": first["number"] + 1_000}).encode()
    two.redis.eval(ADD, 2, stream, meta, late)
    update(two.here, place, 1)
    assert numbers(client.hear(1)) == [1]
    client.drop()
    until(lambda: metric(two.here, "repo_notify_lost_clients") == 1)
    later = json.dumps({**first, "number": first["number"] + 2_000}).encode()
    two.redis.eval(ADD, 2, stream, meta, later)
    update(two.here, place, 2)
    client.connect()
    assert client.recovered
    assert numbers(client.hear(1)) == [2]


def test_a_secret_counts_once_on_all_processes(two: Two, place: Place) -> None:
    client = two.joined(place)
    pid, sid, offset = client.pid, client.sid, client.offset
    client.send("41")
    until(lambda: place.model not in two.records())
    for served in (two.here, two.there):
        other = Returning(served.url, client.cookie, pid=pid, sid=sid, offset=offset).connect()
        assert not other.recovered
        end(other)


def test_a_session_that_ended_elsewhere_recovers_nothing(two: Two, place: Place) -> None:
    client = two.client(None)
    user = User(two.there).log_in(READER, socket_id=client.sid)
    until(lambda: client.emit("join", place.in_model).get("event") == "success")
    until(lambda: place.model in two.records())
    client.drop()
    until(lambda: metric(two.here, "repo_notify_lost_clients") == 1)
    user.post("/logout").raise_for_status()
    until(lambda: metric(two.here, "repo_notify_lost_clients") == 0)
    update(two.there, place, 1)
    client.url = two.there.url
    client.connect()
    assert not client.recovered
    assert client.heard_so_far() == []


def test_a_position_of_one_process_is_one_of_the_other(two: Two, place: Place) -> None:
    client = two.client()
    position = requests.get(f"{two.there.url}/notify/position", timeout=SECONDS).json()["position"]
    for number, served in enumerate((two.here, two.there, two.there, two.here)):
        update(served, place, number)
    behind = requests.get(f"{two.there.url}/notify/position", timeout=SECONDS).json()["position"]
    reply = client.emit("join", {**place.in_model, "since": position})
    assert reply["replayed"] == 4
    # One that is ahead of what this process has read is waited for.
    update(two.there, place, 4)
    assert "gap" not in client.emit("join", {**place.in_model, "since": behind})


def test_who_changed_something_does_not_hear_of_it_on_either(two: Two, place: Place) -> None:
    client = two.joined(place)
    other = two.client("dave")
    other.join(place.in_model)
    client.drop()
    User(two.there).log_in(READER).publish(
        "TicketUpdated", **place.in_model, kind="container", data={"_id": "t", "n1": 1}, socket_id=client.sid
    )
    update(two.there, place, 2)
    assert numbers(other.hear(2)) == [1, 2]
    client.url = two.there.url
    client.connect()
    assert numbers(client.hear(1)) == [2]


def test_what_is_published_by_the_queue_is_in_the_history_once(sample: str, address: str, place: Place) -> None:
    channel = f"two{uuid4().hex}"
    config = {**settings(sample, address, channel), "REPO_NOTIFY_MESSAGE_QUEUE": address}
    with ExitStack() as stack:
        here, there = (stack.enter_context(host_app(config)) for _ in range(2))
        two = Two(redis.Redis.from_url(address, protocol=2), here, there, channel)
        stack.callback(two.close)
        clients = [two.joined(place), two.joined(place)]
        clients[1].drop()
        publisher = QueuePublisher(address, channel=channel)
        for number in range(20):
            data = {"_id": "t", f"n{number}": number}
            publisher.publish(events.TicketUpdated(**place.in_model, kind="container", data=data))
        assert numbers(clients[0].hear(20)) == list(range(20))
        clients[1].url = there.url
        clients[1].connect()
        assert clients[1].recovered
        assert numbers(clients[1].hear(20)) == list(range(20))
        assert clients[0].heard_so_far() == clients[1].heard_so_far() == []
        assert two.redis.xlen(f"{{{channel}}}:stream") >= 20


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2].partition("/")[0])


def ready(served: Served) -> Json:
    return requests.get(f"{served.url}/notify/readyz", timeout=SECONDS).json()


def until_ready(served: Served) -> None:
    until(lambda: ready(served)["status"] == "ok", lambda: ready(served))


def test_while_redis_is_away_each_process_serves_its_own_and_then_all(
    sample: str, address: str, place: Place
) -> None:
    channel = f"two{uuid4().hex}"
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(port_of(address)))
        config = settings(sample, f"redis://127.0.0.1:{proxy.port}/0", channel)
        here, there = (stack.enter_context(host_app(config)) for _ in range(2))
        two = Two(redis.Redis.from_url(address, protocol=2), here, there, channel)
        stack.callback(two.close)
        near, away, gone = (two.joined(place) for _ in range(3))
        far = two.far(place)
        gone.drop()
        with proxy.refusing():
            until(lambda: ready(here)["status"] == "degraded", lambda: ready(here))
            assert ready(here)["reasons"] == {"history": "the history's store does not answer"}
            update(here, place, 1)
            assert numbers(near.hear(1)) == numbers(away.hear(1)) == [1]
            # Who comes back to the same process gets what it missed of that one's own.
            away.drop()
            update(here, place, 2)
            away.connect()
            assert away.recovered
            assert numbers(away.hear(1)) == [2]
            assert numbers(near.hear(1)) == [2]
        for served in (here, there):
            until_ready(served)
        assert numbers(far.hear(2)) == [1, 2]
        update(there, place, 3)
        for client in (near, away, far):
            assert numbers(client.hear(1)) == [3]
            assert client.heard_so_far() == []
        gone.url = there.url
        gone.connect()
        assert gone.recovered
        assert numbers(gone.hear(3)) == [1, 2, 3]


def test_a_redis_that_has_forgotten_everything_is_a_gap_and_a_new_history(
    sample: str, place: Place, tmp_path: Path
) -> None:
    port, channel = free_port(), f"two{uuid4().hex}"
    with ExitStack() as stack:
        broker = stack.enter_context(ExitStack())
        address = broker.enter_context(brokers.redis(tmp_path, port))
        here, there = (stack.enter_context(host_app(settings(sample, address, channel))) for _ in range(2))
        two = Two(redis.Redis.from_url(address, protocol=2), here, there, channel)
        stack.callback(two.close)
        client, dropped, stays = (two.joined(place) for _ in range(3))
        before = client.offset
        dropped.drop()
        broker.close()
        until(lambda: ready(here)["status"] == "degraded", lambda: ready(here))
        update(here, place, 1)
        assert numbers(client.hear(1)) == [1]
        stack.enter_context(brokers.redis(tmp_path, port))
        for served in (here, there):
            until_ready(served)
        assert kinds(client, 1) == ["gap"]
        update(there, place, 2)
        assert numbers(client.hear(1)) == [2]
        assert client.offset is not None
        assert str(before).partition(".")[0] != client.offset.partition(".")[0]
        client.drop()
        update(there, place, 3)
        client.connect()
        assert client.recovered
        assert numbers(client.hear(1)) == [3]
        dropped.url = there.url
        dropped.connect()
        assert not dropped.recovered
        assert kinds(dropped, 1) == ["gap"]
        # Who stayed is known again, also where its process is killed.
        assert kinds(stays, 4) == ["1", "gap", "2", "3"]
        until(lambda: key_of(str(stays.pid)) in two.records())
        here.process.send_signal(signal.SIGKILL)
        here.process.wait(SECONDS)
        update(there, place, 4)
        stays.url = there.url
        stays.connect()
        assert stays.recovered
        assert numbers(stays.hear(1)) == [4]


def test_a_message_that_redis_refuses_is_a_gap_for_the_others(sample: str, place: Place, tmp_path: Path) -> None:
    channel = f"two{uuid4().hex}"
    with ExitStack() as stack:
        address = stack.enter_context(brokers.redis(tmp_path, max_bytes=1 << 20))
        here, there = (stack.enter_context(host_app(settings(sample, address, channel))) for _ in range(2))
        two = Two(redis.Redis.from_url(address, protocol=2), here, there, channel)
        stack.callback(two.close)
        near = two.joined(place)
        far = two.far(place)
        data = {"_id": "t", "n1": 1, "much": "x" * (2 << 20)}
        User(here).log_in("alice").publish("TicketUpdated", **place.in_model, kind="container", data=data)
        ((_, (heard,)),) = near.hear(1)
        assert heard["data"] == data
        assert kinds(far, 1) == ["gap"]
        update(here, place, 2)
        assert numbers(far.hear(1)) == [2]


def test_an_answer_that_is_lost_makes_no_repeat(sample: str, address: str, place: Place) -> None:
    channel = f"two{uuid4().hex}"
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(port_of(address)))
        here = stack.enter_context(
            host_app(settings(sample, f"redis://127.0.0.1:{proxy.port}/0", channel))
        )
        there = stack.enter_context(host_app(settings(sample, address, channel)))
        two = Two(redis.Redis.from_url(address, protocol=2), here, there, channel)
        stack.callback(two.close)
        near = two.joined(place)
        far = two.far(place)
        proxy.lose_answer_to(100_000)
        data = {"_id": "t", "n1": 1, "much": "x" * 200_000}
        User(here).log_in("alice").publish("TicketUpdated", **place.in_model, kind="container", data=data)
        update(here, place, 2)
        for client in (near, far):
            assert [data["data"].get("n2") for _, (data,) in client.hear(2)] == [None, 2]
            assert client.heard_so_far() == []


def test_what_two_processes_bring_into_two_histories_comes_once(
    sample: str, address: str, place: Place, tmp_path: Path
) -> None:
    channel = f"two{uuid4().hex}"
    with ExitStack() as stack:
        history = stack.enter_context(brokers.redis(tmp_path))
        proxy = stack.enter_context(TcpProxy(port_of(history)))
        by_proxy = settings(sample, f"redis://127.0.0.1:{proxy.port}/0", channel)
        here, there = (
            stack.enter_context(host_app({**config, "REPO_NOTIFY_MESSAGE_QUEUE": address}))
            for config in (settings(sample, history, channel), by_proxy)
        )
        two = Two(redis.Redis.from_url(history, protocol=2), here, there, channel)
        stack.callback(two.close)
        near = two.joined(place)
        far = two.far(place)
        with proxy.refusing():
            until(lambda: ready(there)["status"] == "degraded", lambda: ready(there))
            publisher = stack.enter_context(QueuePublisher(address, channel=channel))
            publisher.publish(events.TicketUpdated(**place.in_model, kind="container", data={"_id": "t", "n1": 1}))
            assert numbers(near.hear(1)) == numbers(far.hear(1)) == [1]
            two.redis.flushall()
            assert kinds(near, 1) == ["gap"]
        until_ready(there)
        assert kinds(far, 1) == ["gap"]
        until(lambda: two.redis.xlen(f"{{{channel}}}:stream") == 1)
        update(here, place, 2)
        update(there, place, 3)
        for client in (near, far):
            assert numbers(client.hear(2)) == [2, 3]
            assert client.heard_so_far() == []


def test_what_is_sent_again_into_another_history_comes_once(sample: str, place: Place, tmp_path: Path) -> None:
    channel = f"two{uuid4().hex}"
    with ExitStack() as stack:
        history = stack.enter_context(brokers.redis(tmp_path))
        proxy = stack.enter_context(TcpProxy(port_of(history)))
        here, there = (
            stack.enter_context(host_app(settings(sample, each, channel)))
            for each in (f"redis://127.0.0.1:{proxy.port}/0", history)
        )
        two = Two(redis.Redis.from_url(history, protocol=2), here, there, channel)
        stack.callback(two.close)
        near = two.joined(place)
        far = two.far(place)
        # Redis has to know the script.
        update(here, place, 0)
        assert numbers(near.hear(1)) == numbers(far.hear(1)) == [0]
        proxy.lose_answer_to(100_000, refuse=True)
        data = {"_id": "t", "n1": 1, "much": "x" * 200_000}
        User(here).log_in("alice").publish("TicketUpdated", **place.in_model, kind="container", data=data)
        for client in (near, far):
            ((_, (heard,)),) = client.hear(1)
            assert heard["data"] == data
        two.redis.flushall()
        assert kinds(far, 1) == ["gap"]
        proxy.admit()
        until_ready(here)
        assert kinds(near, 1) == ["gap"]
        until(lambda: two.redis.xlen(f"{{{channel}}}:stream") == 1)
        update(here, place, 2)
        update(there, place, 3)
        for client in (near, far):
            assert numbers(client.hear(2)) == [2, 3]
            assert client.heard_so_far() == []


def test_what_is_published_first_into_another_history_is_heard_at_once(two: Two, place: Place) -> None:
    client = two.joined(place)
    far = two.far(place)
    two.redis.delete(*two.redis.keys(f"{{{two.channel}}}:*"))
    update(two.here, place, 1)
    # Which of them comes first depends on which thread is the first to see it.
    assert sorted(kinds(client, 2)) == ["1", "gap"]
    assert kinds(far, 1) == ["gap"]
    # Nothing is left over for the next outage.
    two.redis.delete(*two.redis.keys(f"{{{two.channel}}}:*"))
    assert kinds(client, 1) == ["gap"]
    update(two.there, place, 2)
    assert numbers(client.hear(1)) == [2]


def test_messages_that_are_none_of_ours_are_passed_over(two: Two, place: Place) -> None:
    client = two.joined(place)
    stream, meta = f"{{{two.channel}}}:stream", f"{{{two.channel}}}:history"
    ours = {"v": 1, "origin": "x", "number": 1, "kind": "event"}
    for body in (b"{", b"\xff" * 100, b'{"v": 99}', json.dumps({**ours, "content": {}}).encode()):
        two.redis.eval(ADD, 2, stream, meta, body)
    update(two.here, place, 1)
    assert numbers(client.hear(1)) == [1]
    client.drop()
    update(two.here, place, 2)
    client.url = two.there.url
    client.connect()
    assert client.recovered
    assert numbers(client.hear(1)) == [2]
