"""An exchange on its own, against a real RabbitMQ: a queue for each consumer, or one at which they take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from repo_notify.backend.exchange import OWN, Exchange, Queue
from repo_notify.backend.takers import AtOnce
from repo_notify.metrics import Metrics
from tests.support.backend import Backend, backend
from tests.support.until import until

pytestmark = pytest.mark.slow

Consume = Callable[..., "Consumer"]


class Consumer:
    """An exchange, what it has received, and how often it may have missed something."""

    def __init__(self, url: str, name: str, queue: Queue) -> None:
        self.bodies: list[bytes] = []
        self.missed = 0
        taker = AtOnce(self.bodies.append, Metrics())
        self.exchange = Exchange(url, name, lambda _: taker, queue=queue, missed=self._count)
        self.exchange.start(30.0)
        assert self.exchange.problem() is None

    def _count(self) -> None:
        self.missed += 1


@pytest.fixture
def publishing(broker: str, mongo: MongoClient[dict[str, Any]]) -> Iterator[Backend]:
    with backend(broker, mongo, f"own{uuid4().hex[:8]}") as found:
        yield found


@pytest.fixture
def consume(broker: str, publishing: Backend) -> Iterator[Consume]:
    with ExitStack() as stack:

        def make(queue: Queue = OWN) -> Consumer:
            consumer = Consumer(broker, publishing.exchange, queue)
            stack.callback(consumer.exchange.close)
            return consumer

        yield make


def test_each_has_a_queue_of_its_own(publishing: Backend, consume: Consume) -> None:
    consumers = [consume(), consume()]
    for number in range(10):
        publishing.publish(number)
    expected = [str(number).encode() for number in range(10)]
    until(lambda: all(consumer.bodies == expected for consumer in consumers), lambda: [c.bodies for c in consumers])
    assert [consumer.missed for consumer in consumers] == [1, 1], "nobody knows what was before"


def test_one_queue_is_consumed_by_one_at_a_time(publishing: Backend, consume: Consume) -> None:
    queue = Queue(
        publishing.exchange,
        exclusive=False,
        auto_delete=False,
        durable=True,
        arguments={"x-single-active-consumer": True, "x-expires": 60_000},
    )
    first, second = consume(queue), consume(queue)
    publishing.publish(1)
    until(lambda: first.bodies == [b"1"])
    first.exchange.close()
    # What is published while nobody consumes waits in the queue.
    publishing.publish(2)
    until(lambda: first.bodies + second.bodies == [b"1", b"2"], lambda: (first.bodies, second.bodies))
    until(lambda: _is_consumed_by(second, publishing))
    assert (first.missed, second.missed) == (1, 0), "nobody knows what was before the queue"


def _is_consumed_by(consumer: Consumer, publishing: Backend) -> bool:
    publishing.publish(3)
    return b"3" in consumer.bodies


def test_large_messages_and_those_that_are_too_large(publishing: Backend, consume: Consume) -> None:
    consumer = consume()
    large = b"x" * (4 * 1024 * 1024)
    for body in (large, large + b"x", b"", b"y" * 20_000_000, b"last"):
        publishing.publish_body(body)
    until(lambda: consumer.bodies[-1:] == [b"last"], seconds=60)
    assert consumer.bodies == [large, b"", b"last"]


def test_one_that_was_closed_begins_anew(publishing: Backend, consume: Consume) -> None:
    consumer = consume()
    consumer.exchange.close()
    assert consumer.exchange.problem() is None, "asked for, it is consumed again"
    publishing.publish(1)
    until(lambda: consumer.bodies[-1:] == [b"1"])


def test_a_message_that_cannot_be_carried_out_costs_that_message_alone(
    broker: str, publishing: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bytes] = []
    metrics = Metrics()

    def receive(body: bytes) -> None:
        if body == b"1":
            raise RuntimeError("on purpose")
        heard.append(body)

    taker = AtOnce(receive, metrics)
    exchange = Exchange(broker, publishing.exchange, lambda _: taker)
    exchange.start(30.0)
    for number in (1, 1, 2):
        publishing.publish(number)
    until(lambda: heard == [b"2"])
    exchange.close()
    assert b"repo_notify_backend_passed_over_total 2.0" in metrics.text()
    assert caplog.text.count("a message of the backend could not be carried out") == 1
