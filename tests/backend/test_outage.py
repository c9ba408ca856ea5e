"""A broker that goes and comes back, or falls silent; an exchange of another kind (spec section 11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from kombu import Connection
from pymongo import MongoClient

from tests.backend.conftest import ROOM, Site, ready, settings, until_ready
from tests.support import brokers
from tests.support.backend import Backend, backend
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.returning import Returning
from tests.support.served import Served, host_app
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GAP = {"event": "gap", "data": {"reason": "Something that was published did not arrive here"}}
# Heartbeats are missed for twice their interval.
SILENCE_SECONDS = 60.0


@pytest.fixture
def serve(sample: str) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def make(url: str, exchange: str, **more: Any) -> Served:
            return stack.enter_context(host_app(settings(sample, url, exchange, **more)))

        yield make


def problem(served: Served) -> str:
    return str(ready(served).json()["reasons"]["backend_queue"])


def up(served: Served) -> float:
    return metric(served, "repo_notify_backend_up")


def port_of(url: str) -> int:
    return int(url.rstrip("/").rsplit(":", 1)[1])


def hear_event(client: ChatClient, name: str) -> Any:
    """Return the data of the next event of that name; gaps may be told before it."""
    while (heard := client.hear())[0] != name:
        assert heard == ("message", (GAP,))
    return heard[1][0]


def test_a_broker_that_stops_and_starts_again(
    serve: Callable[..., Served], mongo: MongoClient[dict[str, Any]], chat: Callable[..., ChatClient], tmp_path: Path
) -> None:
    port, exchange = free_port(), "stopped"
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        url = first.enter_context(brokers.rabbitmq(tmp_path, port))
        served = serve(url, exchange)
        until_ready(served)
        publishing = first.enter_context(backend(url, mongo, exchange))
        client = Site(served, publishing, chat).joined("carol", ROOM)
        before = publishing.model_event("containerNewTicket", ROOM, {"n": 1})
        assert client.hear() == ("containerNewTicket", (before,))
        publishing.connection.release()
        first.close()

        until_ready(served, 503)
        assert "cannot be consumed" in problem(served)
        assert up(served) == 0
        # It serves on meanwhile.
        client.join(ROOM)

        stack.enter_context(brokers.rabbitmq(tmp_path, port))
        until_ready(served)
        assert up(served) == 1
        again = stack.enter_context(backend(url, mongo, exchange))
        after = again.model_event("containerNewTicket", ROOM, {"n": 2})
        assert hear_event(client, "containerNewTicket") == after


def test_a_service_that_starts_before_its_broker(
    serve: Callable[..., Served], mongo: MongoClient[dict[str, Any]], chat: Callable[..., ChatClient], tmp_path: Path
) -> None:
    port, exchange = free_port(), "late"
    url = f"amqp://guest:guest@127.0.0.1:{port}//"
    served = serve(url, exchange)
    until_ready(served, 503)
    with ExitStack() as stack:
        stack.enter_context(brokers.rabbitmq(tmp_path, port))
        until_ready(served)
        publishing = stack.enter_context(backend(url, mongo, exchange))
        client = Site(served, publishing, chat).joined("carol", ROOM)
        told = publishing.model_event("containerNewTicket", ROOM, {"n": 1})
        assert client.hear() == ("containerNewTicket", (told,))


def test_a_connection_that_is_cut_is_made_again_and_what_may_be_missing_is_told(
    serve: Callable[..., Served],
    broker: str,
    mongo: MongoClient[dict[str, Any]],
    chat: Callable[..., ChatClient],
) -> None:
    exchange = f"cut{uuid4().hex[:8]}"
    with TcpProxy(port_of(broker)) as proxy, backend(broker, mongo, exchange) as publishing:
        served = serve(f"amqp://guest:guest@127.0.0.1:{proxy.port}//", exchange)
        until_ready(served)
        site = Site(served, publishing, chat)
        client = site.joined("carol", {**ROOM, "since": None})
        with Returning(served.url, site.cookie("carol")) as away:
            away.connect()
            away.join(ROOM)
            away.drop()
            with proxy.refusing():
                until_ready(served, 503)
                # Nobody of us hears of it, and nobody can say later what it was.
                publishing.model_event("containerNewTicket", ROOM, {"n": 1})
            until_ready(served)
            assert client.hear() == ("message", (GAP,))
            told = publishing.model_event("containerNewTicket", ROOM, {"n": 2})
            assert client.hear() == ("containerNewTicket", (told,))
            away.connect()
            assert not away.recovered


def test_a_restart_with_a_history_that_outlives_it_is_a_gap(
    sample: str, broker: str, mongo: MongoClient[dict[str, Any]], chat: Callable[..., ChatClient]
) -> None:
    """Its queue went with it: what was published meanwhile is not to be had, be the history in a database or not."""
    exchange, database, port = f"restart{uuid4().hex[:8]}", f"history{uuid4().hex[:8]}", free_port()
    kept = {"REPO_NOTIFY_HISTORY": "mongodb", "REPO_NOTIFY_HISTORY_DATABASE": database, "PORT": port}
    config = settings(sample, broker, exchange, **kept)
    with backend(broker, mongo, exchange) as publishing:
        with host_app(config) as served:
            until_ready(served)
            cookie = Site(served, publishing, chat).cookie("carol")
            with Returning(served.url, cookie) as client:
                client.connect()
                client.join(ROOM)
                told = publishing.model_event("containerNewTicket", ROOM, {"n": 1})
                assert client.hear(1) == [("containerNewTicket", [told])]
        publishing.model_event("containerNewTicket", ROOM, {"n": 2})
        with host_app(config) as served:
            until_ready(served)
            client.connect()
            assert not client.recovered
            assert [name for name, _ in client.hear(1)] == ["message"]
            client.close()
    mongo.drop_database(database)


def test_a_broker_that_falls_silent_is_found_by_its_heartbeat(
    serve: Callable[..., Served],
    broker: str,
    mongo: MongoClient[dict[str, Any]],
    chat: Callable[..., ChatClient],
) -> None:
    exchange = f"silent{uuid4().hex[:8]}"
    with TcpProxy(port_of(broker)) as proxy, backend(broker, mongo, exchange) as publishing:
        served = serve(f"amqp://guest:guest@127.0.0.1:{proxy.port}//", exchange)
        until_ready(served)
        client = Site(served, publishing, chat).joined("carol", ROOM)
        connected = proxy.accepted
        proxy.freeze()
        until(lambda: proxy.accepted > connected, seconds=SILENCE_SECONDS)
        until_ready(served)
        told = publishing.model_event("containerNewTicket", ROOM, {"n": 1})
        assert hear_event(client, "containerNewTicket") == told


@pytest.mark.parametrize(("kind", "durable"), [("topic", True), ("fanout", False)])
def test_an_exchange_of_another_kind(serve: Callable[..., Served], broker: str, kind: str, durable: bool) -> None:
    exchange = f"other{uuid4().hex[:8]}"
    with Connection(broker) as connection, connection.channel() as channel:
        channel.exchange_declare(exchange, type=kind, durable=durable, auto_delete=False)
        served = serve(broker, exchange)
        until_ready(served, 503)
        assert "PreconditionFailed" in problem(served)
        channel.exchange_delete(exchange)
        until_ready(served)


class Consumed(NamedTuple):
    """An exchange of a test's own that is consumed, a channel to it, and a client in the model's room."""

    name: str
    channel: Any
    publishing: Backend
    served: Served
    client: ChatClient


@pytest.fixture
def consumed(
    serve: Callable[..., Served], broker: str, mongo: MongoClient[dict[str, Any]], chat: Callable[..., ChatClient]
) -> Iterator[Consumed]:
    name = f"own{uuid4().hex[:8]}"
    with backend(broker, mongo, name) as publishing, publishing.connection.channel() as channel:
        served = serve(broker, name)
        until_ready(served)
        yield Consumed(name, channel, publishing, served, Site(served, publishing, chat).joined("carol", ROOM))


def test_an_exchange_that_is_deleted_while_it_is_consumed(consumed: Consumed) -> None:
    exchange, channel, publishing, served, client = consumed
    channel.exchange_delete(exchange)
    # Nothing that the broker would say: the connection stands, and its queue hears of nothing.
    assert client.hear() == ("message", (GAP,))
    until_ready(served)
    told = publishing.model_event("containerNewTicket", ROOM, {"n": 1})
    assert client.hear() == ("containerNewTicket", (told,))
    # As long as another one has its name it cannot be consumed.
    channel.exchange_delete(exchange)
    channel.exchange_declare(exchange, type="topic", durable=True, auto_delete=False)
    until_ready(served, 503)
    assert "PreconditionFailed" in problem(served)
    assert up(served) == 0
    channel.exchange_delete(exchange)
    until_ready(served)
    told = publishing.model_event("containerNewTicket", ROOM, {"n": 2})
    assert hear_event(client, "containerNewTicket") == told


def test_an_exchange_that_was_made_anew_is_bound_again(consumed: Consumed) -> None:
    exchange, channel, publishing, _, client = consumed
    channel.exchange_delete(exchange)
    channel.exchange_declare(exchange, type="fanout", durable=True, auto_delete=False)

    def heard() -> bool:
        told = publishing.model_event("containerNewTicket", ROOM, {"n": 1})
        return ("containerNewTicket", (told,)) in client.heard_so_far()

    until(heard)


def test_a_wrong_password(serve: Callable[..., Served], broker: str) -> None:
    served = serve(broker.replace("guest:guest", "guest:hunter2"), "any")
    until_ready(served, 503)
    assert "hunter2" not in ready(served).text
