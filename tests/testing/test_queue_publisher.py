"""A process without a server publishes often: one connection, which is opened again when it ends."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from repo_notify import QueuePublisher, QueueUnavailable, events
from repo_notify.delivery.messages import Message
from repo_notify.delivery.queue import Bus
from repo_notify.metrics import Metrics
from tests.support import brokers
from tests.support.ports import free_port
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until

pytestmark = pytest.mark.slow

CHANNEL = "publisher"


def event(number: int) -> events.NotificationUpserted:
    return events.NotificationUpserted(username="carol", data={"n": number})


class Listener:
    """The other end of the queue."""

    def __init__(self, url: str) -> None:
        self.heard: list[int] = []
        self.origins: set[str] = set()
        self.bus = Bus(url, CHANNEL, self._receive, Metrics())
        self.until_up()

    def _receive(self, message: Message) -> None:
        self.origins.add(message.origin)
        self.heard.append(message.content["fields"]["data"]["n"])

    def until_up(self) -> None:
        until(lambda: self.bus.problem() is None, self.bus.problem)


@pytest.mark.parametrize("kind", brokers.BROKERS)
def test_it_keeps_its_connection_until_it_is_closed(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        port = free_port()
        url = stack.enter_context(brokers.BROKERS[kind](tmp_path, port))
        proxy = stack.enter_context(TcpProxy(port))
        listener = Listener(url)
        stack.callback(listener.bus.close)
        with QueuePublisher(url.replace(str(port), str(proxy.port)), channel=CHANNEL) as publisher:
            publisher.publish(event(0))
            opened = proxy.accepted
            threads = [threading.Thread(target=publisher.publish, args=(event(number),)) for number in range(1, 6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            publisher.publish(event(6))
            assert proxy.accepted == opened
            assert proxy.open > 0
            if (child := os.fork()) == 0:
                try:
                    publisher.publish(event(7))
                finally:
                    # Nothing of pytest's may run on in the child, nor of what measures it.
                    os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            forked = proxy.accepted
            assert forked > opened
            publisher.publish(event(8))
            assert proxy.accepted == forked
        until(lambda: proxy.open == 0)
        publisher.publish(event(9))
        publisher.close()
        until(lambda: proxy.open == 0)
        until(lambda: sorted(listener.heard) == list(range(10)), lambda: listener.heard)
        assert len(listener.origins) == 2


@pytest.mark.parametrize("kind", brokers.BROKERS)
def test_it_survives_a_restart_of_the_broker(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker, port = stack.enter_context(ExitStack()), free_port()
        url = broker.enter_context(brokers.BROKERS[kind](tmp_path, port))
        listener = Listener(url)
        stack.callback(listener.bus.close)
        publisher = stack.enter_context(QueuePublisher(url, channel=CHANNEL))
        publisher.publish(event(1))
        broker.close()
        with pytest.raises(QueueUnavailable, match="the message queue cannot be reached"):
            publisher.publish(event(2))
        stack.enter_context(brokers.BROKERS[kind](tmp_path, port))
        until(lambda: listener.bus.problem() is not None or listener.heard == [1])
        listener.until_up()
        publisher.publish(event(3))
        until(lambda: listener.heard[-1] == 3, lambda: listener.heard)


@pytest.mark.parametrize("kind", brokers.BROKERS)
def test_nothing_is_lost_where_the_broker_was_restarted_between_two_events(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker, port = stack.enter_context(ExitStack()), free_port()
        url = broker.enter_context(brokers.BROKERS[kind](tmp_path, port))
        publisher = stack.enter_context(QueuePublisher(url, channel=CHANNEL))
        publisher.publish(event(1))
        broker.close()
        stack.enter_context(brokers.BROKERS[kind](tmp_path, port))
        listener = Listener(url)
        stack.callback(listener.bus.close)
        publisher.publish(event(2))
        until(lambda: listener.heard == [2], lambda: listener.heard)
