"""Two processes with one history in Redis behind a backend: each event is in it once (spec sections 9 and 11)."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from kombu import Connection
from pymongo import MongoClient

from tests.backend.conftest import ROOM, ready, settings, until_ready
from tests.support import brokers, express
from tests.support.backend import Backend, backend
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.returning import Returning
from tests.support.served import SECONDS, Served, host_app
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENT = "containerUpdateTicket"
# How a `basic.ack` begins: its class and its method (AMQP 0-9-1 section 1.8.3.13).
ACKNOWLEDGEMENT = bytes((0, 60, 0, 80))
Make = Callable[..., "Service"]


@dataclass
class Service:
    """Two processes of one service, the backend that both hear of, and their Redis."""

    here: Served
    there: Served
    backend: Backend
    redis: Any
    channel: str
    sessions: list[str] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def both(self) -> tuple[Served, Served]:
        return self.here, self.there

    def client(self, served: Served, user: str = "carol") -> Returning:
        """Return a client of that process, in the room, of which the others know."""
        self.sessions.append(self.backend.save_session(user))
        found = Returning(served.url, express.cookie(self.sessions[-1])).connect()
        self.stack.callback(end, found)
        found.join(ROOM)
        until(lambda: str(found.sid) in self.records())
        return found

    def records(self) -> str:
        return str([self.redis.hgetall(key) for key in self.redis.keys(f"{{{self.channel}}}:records:*")])

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self.backend.model_event(EVENT, ROOM, {"_id": str(number), "n": number})

    def marks(self) -> int:
        return sum(int(number) for number in self.redis.hgetall(f"{{{self.channel}}}:marks").values())

    def kept(self) -> int:
        """How many messages of the backend the stream has."""
        entries = self.redis.xrange(f"{{{self.channel}}}:stream")
        return sum(b'"kind":"backend"' in entry[b"body"] for _, entry in entries)


def end(client: Returning) -> None:
    # Its process may have been killed.
    with suppress(OSError):
        client.close()


def heard(client: Returning, number: int) -> list[int]:
    """Return the numbers of the next events."""
    found = client.hear(number)
    assert {name for name, _ in found} == {EVENT}, found
    return [data["data"]["n"] for _, (data,) in found]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with brokers.redis(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def make(sample: str, broker: str, address: str, mongo: MongoClient[dict[str, Any]]) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(rabbit: str = broker, *, here: str | None = None, way: str = address) -> Service:
            """Serve by two processes, the first of which consumes, by way of `here`; `way` is theirs to Redis."""
            name = uuid4().hex[:12]
            channel, exchange = f"service{name}", f"exchange{name}"
            publishing = stack.enter_context(backend(rabbit, mongo, exchange))
            served = []
            for url in (here or rabbit, rabbit):
                more = {"REPO_NOTIFY_HISTORY": way, "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": channel}
                served.append(stack.enter_context(host_app(settings(sample, url, exchange, **more))))
                until_ready(served[-1])
            found = Service(served[0], served[1], publishing, redis.Redis.from_url(address, protocol=2), channel)
            stack.callback(found.stack.close)
            return found

        yield made


def test_each_client_hears_each_event_once(make: Make) -> None:
    service = make()
    clients = [service.client(served) for served in service.both]
    service.say(*range(20))
    for client in clients:
        assert heard(client, 20) == list(range(20))
        assert client.heard_so_far() == []
    assert service.kept() == 20
    until(lambda: service.marks() == 0)
    for served in service.both:
        assert metric(served, "repo_notify_backend_messages_total", kind="rooms") == 20
        assert metric(served, "repo_notify_backend_up") == 1


def test_events_that_are_alike_are_events_each(make: Make) -> None:
    service = make()
    client = service.client(service.there)
    service.say(*[1] * 10)
    assert heard(client, 10) == [1] * 10
    assert client.heard_so_far() == []


def test_what_is_said_of_sessions_reaches_every_process(make: Make) -> None:
    service = make()
    for served in service.both:
        client = service.client(served)
        service.backend.log_out(service.sessions[-1], "elsewhere")
        assert client.hear(1) == [("loggedOut", [{"reason": "elsewhere"}])]
        assert metric(served, "repo_notify_sessions_ended_total", cause="backend") == 1
        service.say(1)
        until(lambda: metric(served, "repo_notify_backend_messages_total", kind="rooms") > 0)  # noqa: B023 - at once
        assert client.heard_so_far() == []


def test_what_is_no_message_is_counted_by_the_one_whose_turn_it_is(make: Make) -> None:
    service = make()
    clients = [service.client(served) for served in service.both]
    for body in (b"hello", b'{"internal":true}', b'{"event":"e","recipients":["sessions::"]}'):
        service.backend.publish_body(body)
    service.say(1)
    assert [heard(client, 1) for client in clients] == [[1], [1]]
    assert [metric(served, "repo_notify_backend_passed_over_total") for served in service.both] == [3, 0]


def test_a_client_comes_back_on_the_other_process(make: Make) -> None:
    service = make()
    client = service.client(service.here)
    service.say(1)
    assert heard(client, 1) == [1]
    client.drop()
    service.say(2, 3)
    until(lambda: service.kept() == 3)
    client.url = service.there.url
    client.connect()
    assert client.recovered
    assert heard(client, 2) == [2, 3]
    assert client.heard_so_far() == []


def test_the_consuming_process_is_killed_and_nothing_is_lost(make: Make) -> None:
    service = make()
    near, far = (service.client(served) for served in service.both)
    numbers = list(range(400))

    def kill() -> None:
        until(lambda: service.kept() > 50)
        service.here.process.send_signal(signal.SIGKILL)

    with ThreadPoolExecutor() as threads:
        killed = threads.submit(kill)
        service.say(*numbers)
        killed.result()
    service.here.process.wait(SECONDS)
    service.say(400)
    assert heard(far, 401) == [*numbers, 400]
    assert far.heard_so_far() == []
    assert service.kept() == 401
    near.drop()
    before = [data["data"]["n"] for name, (data,) in near.heard if name == EVENT]
    near.url = service.there.url
    near.connect()
    assert near.recovered, near.hear(1)
    rest = heard(near, 401 - len(before))
    assert before + rest == [*numbers, 400]
    assert near.heard_so_far() == []


def test_a_process_that_ends_leaves_its_turn_to_the_other(make: Make) -> None:
    service = make()
    client = service.client(service.there)
    service.say(1)
    service.here.process.terminate()
    service.here.process.wait(SECONDS)
    service.say(2)
    assert heard(client, 2) == [1, 2]
    assert client.heard_so_far() == []
    assert ready(service.there).status_code == 200


def test_a_connection_that_is_cut_brings_nothing_twice(make: Make, broker: str) -> None:
    with TcpProxy(int(broker.rstrip("/").rsplit(":", 1)[1])) as proxy:
        service = make(here=f"amqp://guest:guest@127.0.0.1:{proxy.port}//")
        clients = [service.client(served) for served in service.both]
        acknowledged = proxy.passing(ACKNOWLEDGEMENT)
        service.say(1)
        assert acknowledged.acquire(timeout=SECONDS)
        # What is on its way does not arrive, and comes again, to the other process.
        proxy.freeze()
        service.say(2)
        with proxy.refusing():
            service.say(3)
            until(lambda: service.kept() == 3)
            assert ready(service.here).status_code == 503
        until_ready(service.here)
        service.say(4)
        for client in clients:
            assert heard(client, 4) == [1, 2, 3, 4]
            assert client.heard_so_far() == []


def test_what_a_process_finds_when_it_goes_on_is_no_longer_its_own(make: Make, broker: str) -> None:
    with TcpProxy(int(broker.rstrip("/").rsplit(":", 1)[1])) as proxy:
        service = make(here=f"amqp://guest:guest@127.0.0.1:{proxy.port}//")
        client = service.client(service.there)
        delivered = proxy.passing(b'"n":1', back=True)
        service.here.process.send_signal(signal.SIGSTOP)
        try:
            # It waits in both sockets of a process that stands still; the other queue is its own.
            service.say(1)
            assert all(delivered.acquire(timeout=SECONDS) for _ in range(2))
            with proxy.refusing():
                service.say(2)
                assert heard(client, 2) == [1, 2]
        finally:
            service.here.process.send_signal(signal.SIGCONT)
        until(lambda: proxy.accepted == 4)
        until_ready(service.here)
        service.say(3)
        assert heard(client, 1) == [3]
        assert client.heard_so_far() == []
        assert service.kept() == 3


def test_while_redis_is_away_events_wait(make: Make, address: str) -> None:
    with TcpProxy(int(address.rpartition(":")[2].partition("/")[0])) as proxy:
        service = make(way=f"redis://127.0.0.1:{proxy.port}/0")
        clients = [service.client(served) for served in service.both]
        service.say(1)
        for client in clients:
            assert heard(client, 1) == [1]
        with proxy.refusing():
            until(lambda: all(ready(served).json()["status"] == "degraded" for served in service.both))
            service.say(2, 3)
            assert [client.heard_so_far() for client in clients] == [[], []]
        service.say(4)
        for client in clients:
            assert heard(client, 3) == [2, 3, 4]
            assert client.heard_so_far() == []
        until(lambda: service.marks() == 0)


def test_a_broker_that_starts_again_has_kept_what_nobody_took(make: Make, tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        url = first.enter_context(brokers.rabbitmq(tmp_path, port))
        service = make(url)
        client = service.client(service.there)
        service.say(1)
        assert heard(client, 1) == [1]
        service.backend.connection.release()
        first.close()
        until_ready(service.here, 503)
        stack.enter_context(brokers.rabbitmq(tmp_path, port))
        with Connection(url) as connection:
            Backend(connection, service.backend.mongo, service.backend.exchange).model_event(EVENT, ROOM, {"n": 2})
        assert heard(client, 1) == [2]
        for served in service.both:
            until_ready(served)
        assert client.heard_so_far() == []
        assert service.kept() == 2


@pytest.mark.parametrize("what", ["queue", "exchange"])
def test_a_queue_or_an_exchange_that_is_gone_is_a_gap_for_all(make: Make, what: str) -> None:
    service = make()
    clients = [service.client(served) for served in service.both]
    channel = service.backend.connection.channel()
    if what == "queue":
        channel.queue_delete(f"{service.channel}.{service.backend.exchange}")
    else:
        channel.exchange_delete(service.backend.exchange)
    channel.close()
    for client in clients:
        assert [data["event"] for _, (data,) in client.hear(1)] == ["gap"]
    until(lambda: all(ready(served).status_code == 200 for served in service.both))
    for client in clients:
        client.heard_so_far()
    service.say(1)
    for client in clients:
        assert heard(client, 1) == [1]
